-- Delivery at a later time, and delivery once per idempotency key.

-- Published for later. A table of its own, so that what waits here costs nobody anything who publishes for now; a pass
-- moves what is due into the outbox.
create table :"schema".delayed (
  due_at timestamptz not null,
  first_id bigint not null, -- the first event its transaction delayed to this time: they stay together
  id bigint not null,
  xid xid8 not null default pg_current_xact_id(),
  published_at timestamptz not null default now(),
  stream_id bigint, -- as in the outbox, like all that follows
  stream text collate "C" not null,
  type text,
  key text,
  visible_to text,
  exclude uuid,
  headers json,
  idempotency_key text collate "C",
  call_id bigint,
  data json not null
);

-- serves: what is due, in order, and when the next one is
create index delayed_due on :"schema".delayed (due_at, first_id, id);
-- serves: the first event that this transaction delayed to the same time
create index delayed_xid on :"schema".delayed (xid, due_at, first_id);

alter table :"schema".outbox
  add column idempotency_key text collate "C",
  add column call_id bigint; -- of the call that gave the key: its events are kept or dropped together

-- How long a repeated key is recognised.
alter table :"schema".streams
  add column idempotency_window_ms bigint not null default 86400000
    constraint streams_idempotency_window_valid check (idempotency_window_ms between 1 and 3155760000000);

-- What was written under a key, for as long as it is remembered. Written and read under the stream's lock alone, so no
-- writer ever waits here for another's transaction.
create table :"schema".idempotency_keys (
  stream_id bigint not null,
  key text collate "C" not null,
  first_offset bigint not null,
  last_offset bigint not null,
  last_tag integer not null, -- of the event at last_offset, which may be trimmed by now
  expires_at timestamptz not null,
  primary key (stream_id, key)
);

-- serves: removing those that have expired
create index idempotency_keys_expiry on :"schema".idempotency_keys (expires_at);

drop function if exists :"schema".publish(text, json, text, text, json, boolean, boolean);
drop function if exists :"schema".publish_many(text, text, text[], text[], text[], boolean, boolean);
drop function if exists :"schema".append(text, json, text, text, json);
drop function if exists :"schema".append_batch(text[], integer[], text, integer[], text[], text[], text[], boolean, integer);
drop function if exists :"schema".move_pending(bigint[], integer);
drop function if exists :"schema".pass(integer, integer, text);
