-- The pieces of a keyed group that are due, but for those that are known to be over by its state, behind an old snapshot any
-- number of them: of what was dealt out to partitions (due since 'epoch', and nothing else is) nothing is left before offset
-- p_low, and of what is due at a time hardly anything before p_due_low. Becomes a part of the statement it stands in; three
-- ranges of one index, of which each begins where there is something.
create or replace function :"schema".due_rows(p_group bigint, p_now timestamptz, p_low bigint, p_due_low timestamptz)
returns table (
  id bigint, events int8multirange, first_offset bigint, due_at timestamptz, suspect boolean, partition integer, key_hash bigint
)
language sql stable
begin atomic
  select p.id, p.events, p.first_offset, p.due_at, p.suspect, p.partition, p.key_hash from :"schema".pieces p
  where p.group_id = p_group and p.due_at = '-infinity'
  union all
  select p.id, p.events, p.first_offset, p.due_at, p.suspect, p.partition, p.key_hash from :"schema".pieces p
  where p.group_id = p_group and p.due_at = 'epoch' and p.first_offset >= p_low
  union all
  select p.id, p.events, p.first_offset, p.due_at, p.suspect, p.partition, p.key_hash from :"schema".pieces p
  where p.group_id = p_group and p.due_at > 'epoch' and p.due_at >= p_due_low and p.due_at <= p_now;
end;
