-- Groups: named consumers that share the work of a stream. What each of the parts is for, and what else was measured:
-- docs/decisions/0016-groups.md.

-- One row per group. Its row lock (`for no key update`) is the authority over what is handed out; like a stream's row it
-- is not updated for that.
create table :"schema".groups (
  id bigint generated always as identity primary key,
  stream_id bigint not null, -- the incarnation: a stream created again has no groups
  name text collate "C" not null,
  created_at timestamptz not null default clock_timestamp(),
  paused_at timestamptz,
  partitions integer constraint groups_partitions_valid check (partitions between 1 and 1024), -- null: not keyed
  -- Retention leaves what the group has not handled for so long after it came; null: it takes no notice of the group.
  hold_ms bigint constraint groups_hold_valid check (hold_ms between 1 and 3155760000000),
  missed bigint not null default 0, -- events that were trimmed before they were handled
  constraint groups_name_valid check (
    octet_length(name) between 1 and 512 and name !~ '[\u0001-\u001f\u007f-\u009f]'
  ),
  unique (stream_id, name) -- serves: every look-up by name
);

-- serves: the groups that hold back the retention of a stream, among any number that do not
create index groups_holding on :"schema".groups (stream_id) where hold_ms is not null;

-- How far a group has come: append-only, the newest row counts, the others are removed. A row that is updated instead
-- grows dead versions behind an old snapshot, and every claim would wade through them.
create table :"schema".group_states (
  group_id bigint not null,
  seq bigint not null,
  "offset" bigint not null, -- up to here everything has been handed out, or lies in pieces
  next_at timestamptz not null, -- with a throttle: when the next event may go
  -- Where it stood at two moments, the later of them up to half a minute ago: tells the rate.
  mark_at timestamptz not null,
  mark_offset bigint not null,
  last_mark_at timestamptz not null,
  last_mark_offset bigint not null,
  primary key (group_id, seq) -- serves: the newest state
);

-- What is to be handed out again, and in keyed groups for the first time: sets of offsets.
create table :"schema".pieces (
  id bigint generated always as identity primary key,
  group_id bigint not null,
  events int8multirange not null check (not isempty(events)),
  first_offset bigint not null generated always as (lower(events)) stored,
  due_at timestamptz not null,
  attempts integer not null, -- how often its events were handed out
  strikes integer not null, -- how often that failed by this one event's own fault
  suspect boolean not null, -- one of its events may have taken a consumer down
  partition integer, -- in keyed groups
  key_hash bigint, -- in keyed groups, of the one event whose key waits: it failed, or stands behind one that did
  error text
);

-- serves: what is due, in order, and when the next one is
create index pieces_due on :"schema".pieces (group_id, due_at, first_offset);
-- serves: whether an event's key waits
create index pieces_key on :"schema".pieces (group_id, partition, key_hash, first_offset) where key_hash is not null;

-- What is handed out: a lease is the rows of one token, one for all that is alike (how often it was handed out, and so on).
create table :"schema".leases (
  token uuid not null, -- random: a number could be given twice, after a crash that lost its commit
  n integer not null,
  group_id bigint not null,
  member uuid not null,
  open int8multirange not null, -- not done yet
  attempts integer not null, -- with this one
  strikes integer not null,
  suspect boolean not null,
  partition integer,
  claimed_at timestamptz not null,
  expires_at timestamptz not null,
  primary key (token, n)
);

-- serves: leases that have expired, and when the next one does
create index leases_expiry on :"schema".leases (group_id, expires_at);

-- Acknowledged in a handler's own transaction: counts from its commit on. Removed with the lease.
create table :"schema".acks (
  id bigint generated always as identity primary key,
  token uuid not null,
  events int8multirange not null
);

-- serves: what was acknowledged of a lease
create index acks_token on :"schema".acks (token);

-- Who consumes now. Tells how the work is shared; guards nothing.
create table :"schema".members (
  group_id bigint not null,
  id uuid not null,
  expires_at timestamptz not null,
  primary key (group_id, id)
);

-- Given up, with the event as it was: the log may have let go of it by now.
create table :"schema".dead_letters (
  group_id bigint not null,
  "offset" bigint not null,
  died_at timestamptz not null default clock_timestamp(),
  attempts integer not null,
  error text,
  partition integer,
  at timestamptz not null,
  tag integer not null,
  type text,
  key text,
  visible_to text,
  exclude uuid,
  headers json,
  data json not null,
  primary key (group_id, "offset") -- serves: listing in order
);

-- Groups deleted whose rows are still to be removed, in bounded batches.
create table :"schema".group_purges (
  group_id bigint primary key
);

-- What decides an event's partition in a keyed group. An event without a key stands for itself. Here and not among the
-- functions, as type_is_valid is: it is asked for each event.
create function :"schema".key_hash(p_key text, p_offset bigint) returns bigint
language sql immutable parallel safe
return case when p_key is null then hashint8extended(p_offset, 1) else hashtextextended(p_key, 0) end;
