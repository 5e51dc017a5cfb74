-- Deletes a stream. A stream created later under the same name is another incarnation. The events are removed
-- afterwards in bounded batches (purge_events). What is published but not moved yet becomes undeliverable.
-- Null: there is no such stream.
create or replace function :"schema".delete_stream(p_stream text) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
  v_start bigint;
begin
  delete from :"schema".streams s where s.name = p_stream returning s.id, s.trimmed_to into v_id, v_start;
  if found then
    insert into :"schema".purges (stream_id, after_offset) values (v_id, v_start);
  end if;
  return v_id;
end
$$;
