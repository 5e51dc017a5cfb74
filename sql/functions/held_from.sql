-- Up to which offset retention may go in a stream without taking from a group that holds it back (hold_ms) what that has
-- not handled; what came longer ago than hold_ms is held by none. Null: no group holds it back.
create or replace function :"schema".held_from(p_stream_id bigint, p_from bigint, p_to bigint) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  return (select min(greatest(
    least(t."offset", l.first - 1, p.first - 1),
    :"schema".offset_before(p_stream_id, p_from, p_to, :"schema".age_limit(g.hold_ms))))
  from :"schema".groups g
  cross join lateral (
    select x."offset" from :"schema".group_states x where x.group_id = g.id order by x.seq desc limit 1
  ) t
  cross join lateral (select min(lower(x.open)) as first from :"schema".leases x where x.group_id = g.id) l
  cross join lateral (select min(x.first_offset) as first from :"schema".pieces x where x.group_id = g.id) p
  where g.stream_id = p_stream_id and g.hold_ms is not null);
end
$$;
