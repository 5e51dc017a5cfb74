-- Ephemerals: what is broadcast to whoever is connected, for the moment it takes every process to read it.
-- Why a table and not the notification itself, with measurements: docs/decisions/0011-ephemerals.md.

-- The order of the ephemerals of one transaction.
create sequence :"schema".ephemeral_id as bigint cache 1;

-- Three slots in turn, by the clock (see ephemeral_slot): one is written to, and the one left longest ago is truncated,
-- so that the space comes back even behind an old snapshot. Unlogged: a crash may take what nobody keeps anyway.
create table :"schema".ephemerals (
  slot smallint not null,
  xid xid8 not null default pg_current_xact_id(), -- tells a reader which transactions it has not seen yet
  id bigint not null default nextval(:'schema.ephemeral_id'),
  at timestamptz not null default clock_timestamp(),
  stream text collate "C" not null,
  type text,
  data json not null
) partition by list (slot);

create unlogged table :"schema".ephemerals_0 partition of :"schema".ephemerals for values in (0);
create unlogged table :"schema".ephemerals_1 partition of :"schema".ephemerals for values in (1);
create unlogged table :"schema".ephemerals_2 partition of :"schema".ephemerals for values in (2);

-- serves: what is new since a reader's last snapshot, in order
create index ephemerals_order on :"schema".ephemerals (xid, id);
