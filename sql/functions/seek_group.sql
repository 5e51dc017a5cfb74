-- Moves a group to begin again after offset p_after: what was handed out is taken back (the leases are over), what
-- waited to be handed out again is forgotten. Dead letters stay. Waits for whoever holds the group.
create or replace function :"schema".seek_group(p_group bigint, p_after bigint) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_state record;
  v_tokens uuid[];
begin
  perform from :"schema".groups g where g.id = p_group for no key update;
  select t.*, coalesce(h."offset", s.trimmed_to) as head into v_state
  from :"schema".groups g join :"schema".streams s on s.id = g.stream_id
  cross join lateral (select x.* from :"schema".group_states x where x.group_id = g.id order by x.seq desc limit 1) t
  left join lateral (
    select e."offset" from :"schema".events e where e.stream_id = s.id and e."offset" > s.trimmed_to order by e."offset" desc limit 1
  ) h on true
  where g.id = p_group;
  if not found then
    raise exception 'the group is gone: it was deleted, or its stream was' using errcode = 'SL001';
  end if;
  if p_after < 0 or p_after > v_state.head then
    raise exception 'a group cannot begin after offset %: the head is %', p_after, v_state.head
      using errcode = '22023', hint = 'give 0 to the head';
  end if;
  with gone as (delete from :"schema".leases l where l.group_id = p_group returning l.token)
  select array_agg(g.token) into v_tokens from gone g;
  -- A later statement: it sees what was acknowledged in transactions that the one before has waited for.
  delete from :"schema".acks a where a.token = any (v_tokens);
  delete from :"schema".pieces p where p.group_id = p_group;
  -- Not before: of those leases, no more dead letters come.
  update :"schema".groups g set sought_at = clock_timestamp() where g.id = p_group;
  insert into :"schema".group_states (group_id, seq, "offset", next_at, mark_at, mark_offset, last_mark_at, last_mark_offset)
  values (p_group, v_state.seq + 1, p_after, v_state.next_at, clock_timestamp(), p_after, clock_timestamp(), p_after);
  delete from :"schema".group_states x where x.group_id = p_group and x.seq <= v_state.seq;
end
$$;
