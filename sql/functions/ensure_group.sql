-- The group of that name of a stream, made on first use to begin after offset p_after. Returns its id, and how many
-- partitions it has (null: not keyed), which never changes. How long it holds retention back is set if p_hold_ms is given
-- (0: not at all). Null: the stream is gone.
create or replace function :"schema".ensure_group(
  p_stream_id bigint, p_name text, p_after bigint, p_partitions integer, p_hold_ms bigint default null,
  out id bigint, out partitions integer
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Held until the commit: a stream that is being deleted takes no new group with it unseen.
  perform from :"schema".streams s where s.id = p_stream_id for key share;
  if not found then
    return;
  end if;
  insert into :"schema".groups as g (stream_id, name, partitions, hold_ms)
  values (p_stream_id, p_name, p_partitions, nullif(p_hold_ms, 0))
  on conflict (stream_id, name) do nothing returning g.id, g.partitions into id, partitions;
  if found then
    insert into :"schema".group_states (group_id, seq, "offset", next_at, mark_at, mark_offset, last_mark_at, last_mark_offset)
    values (id, 1, p_after, '-infinity', clock_timestamp(), p_after, clock_timestamp(), p_after);
    return;
  end if;
  if p_hold_ms is not null then
    update :"schema".groups g set hold_ms = nullif(p_hold_ms, 0)
    where g.stream_id = p_stream_id and g.name = p_name and g.hold_ms is distinct from nullif(p_hold_ms, 0);
  end if;
  select g.id, g.partitions into id, partitions from :"schema".groups g where g.stream_id = p_stream_id and g.name = p_name;
end
$$;
