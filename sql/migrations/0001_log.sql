-- The log: streams, their events, the outbox in front of it, and what could not be delivered.
-- Why the tables look like this, with measurements: docs/decisions/0002-storage.md.

-- One row per stream. Its row lock (`for no key update`) is the only authority over offsets. It is never updated
-- for an append: the head is derived from the primary key of events, so a hot stream leaves no dead versions here.
create table :"schema".streams (
  id bigint generated always as identity primary key, -- the incarnation: never reused
  name text collate "C" not null,
  created_at timestamptz not null default clock_timestamp(),
  closed_at timestamptz,
  trimmed_to bigint not null default 0 check (trimmed_to >= 0), -- the last offset that is gone
  trimmed_tag integer not null default 0, -- its tag, so that a cursor standing on it is still recognised
  constraint streams_name_valid check (
    octet_length(name) between 1 and 512 and name !~ '[\u0001-\u001f\u007f-\u009f]'
  )
);

-- serves: every look-up by name, and pages of streams by prefix (collation "C" makes a prefix a range)
create unique index streams_name on :"schema".streams (name);

-- Append-only. No foreign key to streams: publishers' key-share locks would make a pass skip the stream.
create table :"schema".events (
  stream_id bigint not null,
  "offset" bigint not null,
  at timestamptz not null,
  tag integer not null, -- 32 random bits: tells this event from one at the same offset in another history
  size integer not null, -- bytes of data as text, so that a page can be bounded without reading the data
  type text,
  key text,
  visible_to text, -- who may see it: a label that the server in front decides on; null: everybody
  exclude uuid, -- the connection that caused it, and need not be told
  headers json,
  data json not null, -- json, not jsonb: keeps bytes as given and accepts every JSON text
  primary key (stream_id, "offset") -- serves: the head of a stream, and every page read
) with (
  -- Its rows never change: frozen by the first vacuum, while they are still in memory, they leave nothing to do for the
  -- one against wraparound, which would have to read years of events again.
  autovacuum_freeze_min_age = 0,
  autovacuum_vacuum_insert_threshold = 100000,
  autovacuum_vacuum_insert_scale_factor = 0.02
);

-- Called by the functions and not a constraint: a check is parsed and planned again by every statement that inserts,
-- which made a publish a third slower. The same rule as the library's: a line end in a type could forge a frame of the event stream a browser reads.
create function :"schema".type_is_valid(p_type text) returns boolean
language sql immutable parallel safe
return p_type is null or (octet_length(p_type) between 1 and 128 and p_type !~ '[\u0001-\u001f\u007f-\u009f]'
  and p_type not in ('open', 'error') and p_type not like 'sluice:%');

-- Published, not yet in a log. Rows leave by delete (so "still here" is the whole truth about what is pending, also
-- after a dump and restore), and the space they leave is taken back by truncating the slots in turn: unlike vacuum,
-- that works behind an old snapshot. Publishers write to the slot named by outbox_slot; readers look in all of them,
-- so a publisher with a stale idea of the current slot loses nothing.
create sequence :"schema".outbox_id as bigint cache 1; -- cache 1: a session's private range would break the order
create sequence :"schema".outbox_slot as bigint minvalue 0 maxvalue 2 start 0;

create table :"schema".outbox (
  slot smallint not null,
  id bigint not null default nextval(:'schema.outbox_id'),
  xid xid8 not null default pg_current_xact_id(), -- with published_at: events of one transaction stand together
  published_at timestamptz not null default now(), -- when that transaction began: its id may occur again after a restore
  stream_id bigint, -- the incarnation the publisher saw; null: none yet
  stream text collate "C" not null,
  type text,
  key text,
  visible_to text,
  exclude uuid,
  headers json,
  data json not null
) partition by list (slot);

create table :"schema".outbox_0 partition of :"schema".outbox for values in (0);
create table :"schema".outbox_1 partition of :"schema".outbox for values in (1);
create table :"schema".outbox_2 partition of :"schema".outbox for values in (2);

-- serves: which streams have something pending, and one stream's pending rows in order
create index outbox_stream_id on :"schema".outbox (stream, id);

-- Published rows whose stream was closed or deleted before they were moved.
create table :"schema".undeliverable (
  id bigint generated always as identity primary key, -- serves: listing in order
  at timestamptz not null default clock_timestamp(),
  reason text not null check (reason in ('stream_closed', 'stream_deleted')),
  published_at timestamptz not null,
  stream_id bigint,
  stream text not null,
  type text,
  key text,
  visible_to text,
  exclude uuid,
  headers json,
  data json not null
);

-- Streams deleted whose events are still to be removed, in bounded batches.
create table :"schema".purges (
  stream_id bigint primary key,
  at timestamptz not null default clock_timestamp()
);
