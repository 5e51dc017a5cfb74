-- Presence: who is connected to which stream, one row per connection and stream, held by the process that serves it.
-- Why processes have the leases, and not connections: docs/decisions/0010-presence.md. Unlogged: after a crash every
-- process finds its lease gone and enters its connections again.

-- One row per process that serves somebody. Past expires_at, its connections count as gone.
create unlogged table :"schema".presence_holders (
  id uuid primary key,
  expires_at timestamptz not null
);

create unlogged table :"schema".presence (
  stream text collate "C" not null,
  member text collate "C" not null,
  connection_id uuid not null,
  holder uuid not null,
  state json not null,
  joined_at timestamptz not null default clock_timestamp(),
  primary key (stream, member, connection_id) -- serves: the members of a stream, and one member of it
);

-- serves: the connections of a process, when one leaves or the process is gone
create index presence_holder on :"schema".presence (holder, connection_id);
