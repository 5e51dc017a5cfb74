-- Lists as undeliverable what was published to an incarnation of the stream that is gone, where there is no stream of
-- that name now. Returns how many.
create or replace function :"schema".refuse_deleted(p_stream text) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_refused bigint;
begin
  with refused as (
    delete from :"schema".outbox o
    where o.stream = p_stream and o.stream_id is not null
      and not exists (select from :"schema".streams s where s.id = o.stream_id)
    returning o.*
  )
  insert into :"schema".undeliverable (reason, published_at, stream_id, stream, type, key, visible_to, exclude, headers, data)
  select 'stream_deleted', r.published_at, r.stream_id, r.stream, r.type, r.key, r.visible_to, r.exclude, r.headers, r.data
  from refused r order by r.id;
  get diagnostics v_refused = row_count;
  return v_refused;
end
$$;
