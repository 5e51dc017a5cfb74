-- Acknowledges events of a lease in the caller's transaction: they count as handled from its commit on, and not at all
-- after a rollback. While it is open nobody takes the lease back, even past its end; and other events of the same lease
-- are acknowledged beside it, without waiting. Refused where the lease is over, or its group or stream was deleted.
create or replace function :"schema".ack_events(p_token uuid, p_events int8multirange) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_open int8multirange;
begin
  select range_agg(r) into v_open from (
    select l.open from :"schema".leases l
    where l.token = p_token and l.open && p_events and l.expires_at > clock_timestamp()
      and exists (select from :"schema".groups g join :"schema".streams s on s.id = g.stream_id where g.id = l.group_id)
    for key share
  ) l cross join lateral unnest(l.open) r;
  if v_open is null or not v_open @> p_events then
    perform :"schema".refuse_lease(p_token);
  end if;
  insert into :"schema".acks (token, events) values (p_token, p_events);
end
$$;
