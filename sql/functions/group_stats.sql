-- What a group is at; the rate is of the events handed out, per second over the last half to one minute. Counts rows: with
-- millions of retries or dead letters it takes as long as counting them.
--
-- The first claim more than 30 s after a mark sets the next one. So what was handed out between two marks, or since the
-- last, was handed out within 30 s after the earlier one, however long nothing has come since.
create or replace function :"schema".group_stats(p_group bigint)
returns table (
  "cursor" bigint, head bigint, lag bigint, oldest_age_ms double precision, in_flight bigint, retries bigint, dead bigint,
  missed bigint, members bigint, paused boolean, partitions integer, rate double precision
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with state as (
    select g.*, s.trimmed_to, t."offset" as at_offset, t.mark_at, t.mark_offset, t.last_mark_at, t.last_mark_offset,
      clock_timestamp() as now, coalesce(h."offset", s.trimmed_to) as head_offset
    from :"schema".groups g join :"schema".streams s on s.id = g.stream_id
    cross join lateral (select x.* from :"schema".group_states x where x.group_id = g.id order by x.seq desc limit 1) t
    left join lateral (
      select e."offset" from :"schema".events e
      where e.stream_id = s.id and e."offset" > s.trimmed_to order by e."offset" desc limit 1
    ) h on true
    where g.id = p_group
  ), flight as (
    select coalesce(sum(upper(r) - lower(r)), 0) as events,
      min(greatest(lower(r), s.trimmed_to + 1)) filter (where upper(r) > s.trimmed_to + 1) as oldest
    from state s, :"schema".leases l cross join lateral unnest(l.open) r where l.group_id = p_group
  ), again as (
    -- Nearly all of them are of one event, and unnesting costs more than all the rest.
    select coalesce(sum(n.events), 0) as events,
      min(case when p.first_offset > s.trimmed_to then p.first_offset
        else lower(p.events * int8multirange(int8range(s.trimmed_to + 1, null))) end) as oldest,
      coalesce(sum(n.events) filter (where p.attempts = 0), 0) as fresh
    from state s, :"schema".pieces p cross join lateral (
      select case when upper(p.events) = p.first_offset + 1 then 1
        else (select sum(upper(r) - lower(r)) from unnest(p.events) r) end as events
    ) n where p.group_id = p_group
  )
  select s.at_offset, s.head_offset, greatest(s.head_offset - greatest(s.at_offset, s.trimmed_to), 0) + a.events + f.events,
    (select greatest(date_part('epoch', s.now - e.at) * 1000, 0) from :"schema".events e
     where e.stream_id = s.stream_id and e."offset" = least(f.oldest, a.oldest, greatest(s.at_offset, s.trimmed_to) + 1)),
    f.events, a.events - a.fresh,
    (select count(*) from :"schema".dead_letters d where d.group_id = s.id),
    s.missed + greatest(s.trimmed_to - s.at_offset, 0),
    (select count(*) from :"schema".members m where m.group_id = s.id and m.expires_at > clock_timestamp()),
    s.paused_at is not null, s.partitions,
    case
      when s.mark_at < s.now - interval '60 s' then 0
      when s.mark_at < s.now - interval '30 s'
        then (s.at_offset - s.mark_offset) / date_part('epoch', s.now - s.mark_at)
      when s.last_mark_at < s.now - interval '60 s'
        then (s.at_offset - s.mark_offset) / least(date_part('epoch', s.now - s.last_mark_at) - 30, 60)
      else (s.at_offset - s.last_mark_offset) / greatest(date_part('epoch', s.now - s.last_mark_at), 1)
    end
  from state s, flight f, again a
$$;
