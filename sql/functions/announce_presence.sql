-- Tells every process that members of streams have come, changed or gone; each looks for itself. Goes the way of
-- ephemerals, under a type that nobody can broadcast: fifty members in a row, so that none is longer than a broadcast.
create or replace function :"schema".announce_presence(p_streams text[], p_members text[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into :"schema".ephemerals (slot, stream, type, data)
  select :"schema".ephemeral_slot(), m.stream, 'sluice:presence', json_agg(m.member)
  from (
    select d.stream, d.member, (row_number() over (partition by d.stream) - 1) / 50 as part
    from (select distinct stream, member from unnest(p_streams, p_members) u (stream, member)) d
  ) m
  group by m.stream, m.part;
  if found and pg_notification_queue_usage() < 0.5 then
    perform pg_notify(:'ephemerals_channel', '');
  end if;
end
$$;
