-- Pauses a group, or lets it go on: nothing more is handed out while it is paused. What is in hand goes on. Whether the
-- group is there.
create or replace function :"schema".pause_group(p_group bigint, p_paused boolean) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update :"schema".groups g set paused_at = case when p_paused then coalesce(g.paused_at, clock_timestamp()) end
  where g.id = p_group;
  return found;
end
$$;
