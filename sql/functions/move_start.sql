-- Moves the start of a stream: the events up to and with p_to are gone for every reader when this commits, and their
-- rows are removed later (purge_events). THE place where history ends. Never moves back. Takes the stream's row lock, for
-- as long as the transaction goes on: call it last. Returns the start before, also when that is later; null: no stream.
create or replace function :"schema".move_start(p_stream_id bigint, p_to bigint) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_from bigint;
  v_tag integer;
begin
  select s.trimmed_to into v_from from :"schema".streams s where s.id = p_stream_id for no key update;
  if v_from < p_to then
    select e.tag into v_tag from :"schema".events e where e.stream_id = p_stream_id and e."offset" = p_to;
    if not found then
      raise exception 'stream % has no event at offset %', p_stream_id, p_to;
    end if;
    update :"schema".streams s set trimmed_to = p_to, trimmed_tag = v_tag where s.id = p_stream_id;
    insert into :"schema".purges (stream_id, after_offset, to_offset) values (p_stream_id, v_from, p_to);
  end if;
  return v_from;
end
$$;
