-- One step towards knowing from where on a stream holds p_max_bytes: `cut` is the last offset after which the events
-- amount to at least that (null: not known, or they do not). Never a guess: an event is let go only when those after
-- it, added up one by one, are enough. Looks at up to p_limit events per way; `more` says that another step is needed.
--
-- The window (from_offset, to_offset] of `weights` follows the head, gives up what it can spare at its old end, and
-- reaches back while it holds too little. p_floor: what other bounds let go of anyway, so nobody need weigh it.
--
-- Rows may go between two statements of this function, when somebody trims by hand. To miss one while adding up keeps
-- too much until the next step; to miss one while taking away would let go of too much, so there they are counted: they
-- are dense, or the window starts over at the head.
create or replace function :"schema".weigh_stream(
  p_stream_id bigint, p_floor bigint, p_head bigint, p_max_bytes bigint, p_limit integer, out cut bigint, out more boolean
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  w record;
  v_next bigint;
  v_bytes bigint;
  v_count bigint;
  v_whole boolean;
begin
  insert into :"schema".weights as n (stream_id, from_offset, to_offset, bytes) values (p_stream_id, p_head, p_head, 0)
  on conflict (stream_id) do nothing;
  select n.from_offset as a, n.to_offset as b, n.bytes into w from :"schema".weights n where n.stream_id = p_stream_id for update;
  v_whole := w.b <= p_head and p_floor <= w.b;
  if v_whole and w.a < p_floor then -- gives up what goes anyway
    select coalesce(sum(e.size), 0), count(*) into v_bytes, v_count
    from :"schema".events e where e.stream_id = p_stream_id and e."offset" > w.a and e."offset" <= least(p_floor, w.a + p_limit);
    v_whole := v_count = p_floor - w.a;
    w.a := p_floor;
    w.bytes := w.bytes - v_bytes;
  end if;
  if v_whole then -- follows the head
    v_next := least(p_head, w.b + p_limit);
    select coalesce(sum(e.size), 0) into v_bytes
    from :"schema".events e where e.stream_id = p_stream_id and e."offset" > w.b and e."offset" <= v_next;
    w.b := v_next;
    w.bytes := w.bytes + v_bytes;
  else
    w.a := p_head;
    w.b := p_head;
    w.bytes := 0;
  end if;
  more := w.b < p_head;
  if w.bytes >= p_max_bytes then -- lets go of what it can spare
    select max(o."offset"), max(o.bytes), count(*) into v_next, v_bytes, v_count
    from (
      select e."offset", sum(e.size) over (order by e."offset") as bytes, row_number() over (order by e."offset") as n
      from :"schema".events e
      where e.stream_id = p_stream_id and e."offset" > w.a and e."offset" <= least(w.b, w.a + p_limit)
    ) o where w.bytes - o.bytes >= p_max_bytes and o."offset" = w.a + o.n;
    w.a := coalesce(v_next, w.a);
    w.bytes := w.bytes - coalesce(v_bytes, 0);
    more := more or v_count = p_limit;
    cut := w.a;
  elsif w.a > p_floor then -- reaches back
    v_next := greatest(p_floor, w.a - p_limit);
    select coalesce(sum(e.size), 0) into v_bytes
    from :"schema".events e where e.stream_id = p_stream_id and e."offset" > v_next and e."offset" <= w.a;
    w.a := v_next;
    w.bytes := w.bytes + v_bytes;
    more := more or w.a > p_floor or w.bytes >= p_max_bytes;
  end if;
  update :"schema".weights n
  set from_offset = w.a, to_offset = w.b, bytes = w.bytes, settled_for = case when not more then p_max_bytes end
  where n.stream_id = p_stream_id;
end
$$;
