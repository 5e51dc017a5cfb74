-- Enters connections of a process, one row for each and stream, and gives the process its lease. False: its lease was
-- over, nothing is entered, and it starts again under another id; what it held is being removed.
-- Of several connections of one member the newest says its state: they come in the order in which they were opened, and
-- are as far apart as can be told.
-- Locks: the holder's row, then rows of presence in the order of their key, by its collation; leave_presence takes those
-- in the same order, and renew_presence waits for none.
create or replace function :"schema".enter_presence(
  p_holder uuid,
  p_lease_ms double precision,
  p_connections uuid[],
  p_streams text[],
  p_members text[],
  p_states text[]
) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz;
begin
  insert into :"schema".presence_holders as h (id, expires_at)
  values (p_holder, clock_timestamp() + make_interval(secs => p_lease_ms / 1000))
  on conflict (id) do update set expires_at = excluded.expires_at where h.expires_at > clock_timestamp();
  if not found then
    return false;
  end if;
  v_now := clock_timestamp();
  insert into :"schema".presence (stream, member, connection_id, holder, state, joined_at)
  select e.stream, e.member, e.connection_id, p_holder, e.state::json, v_now + e.nr * interval '1 microsecond'
  from unnest(p_connections, p_streams, p_members, p_states) with ordinality
    e (connection_id, stream, member, state, nr)
  order by e.stream collate "C", e.member collate "C", e.connection_id
  on conflict (stream, member, connection_id) do update set holder = excluded.holder, state = excluded.state;
  perform :"schema".announce_presence(p_streams, p_members);
  return true;
end
$$;
