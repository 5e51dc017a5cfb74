-- Deletes a group; its rows are removed afterwards in bounded batches (purge_groups). Leases of it are over. False:
-- there was none.
create or replace function :"schema".delete_group(p_stream text, p_group text) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
begin
  delete from :"schema".groups g using :"schema".streams s
  where s.name = p_stream and g.stream_id = s.id and g.name = p_group returning g.id into v_id;
  if found then
    insert into :"schema".group_purges (group_id) values (v_id);
  end if;
  return found;
end
$$;
