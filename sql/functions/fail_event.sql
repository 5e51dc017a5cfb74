-- One event of a group has failed by its own fault (p_strikes times before): due again at p_retry_at, by default after a
-- backoff with full jitter of at most p_initial_ms * 2 ^ p_strikes and p_max_ms milliseconds; after p_max_attempts it is
-- given up, and true returned. With p_initial_ms 0 it is suspected of having taken its consumer down: due at once, and
-- handed out by itself. Nothing is left of an event that the log let go of.
create or replace function :"schema".fail_event(
  p_group bigint, p_offset bigint, p_attempts integer, p_strikes integer, p_partition integer, p_error text,
  p_retry_at timestamptz, p_max_attempts integer, p_initial_ms double precision, p_max_ms double precision
) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_event record;
begin
  select e.*, g.partitions into v_event
  from :"schema".groups g join :"schema".streams s on s.id = g.stream_id
  join :"schema".events e on e.stream_id = s.id and e."offset" = p_offset and e."offset" > s.trimmed_to
  where g.id = p_group;
  if not found then
    update :"schema".groups g set missed = g.missed + 1 where g.id = p_group;
    return false;
  end if;
  if p_strikes + 1 >= p_max_attempts then
    insert into :"schema".dead_letters (group_id, "offset", attempts, error, partition, at, tag, type, key, visible_to, exclude,
      headers, data)
    values (p_group, p_offset, p_attempts, p_error, p_partition, v_event.at, v_event.tag, v_event.type, v_event.key,
      v_event.visible_to, v_event.exclude, v_event.headers, v_event.data)
    on conflict (group_id, "offset") do update
    set died_at = excluded.died_at, attempts = excluded.attempts, error = excluded.error;
    return true;
  end if;
  insert into :"schema".pieces (group_id, events, due_at, attempts, strikes, suspect, partition, key_hash, error)
  values (p_group, int8multirange(int8range(p_offset, p_offset + 1)),
    greatest(clock_timestamp(), coalesce(p_retry_at,
      clock_timestamp() + random() * least(p_max_ms, p_initial_ms * 2.0 ^ least(p_strikes, 50)) * interval '1 ms')),
    p_attempts, p_strikes + 1, p_initial_ms = 0, p_partition,
    case when p_partition is not null then :"schema".key_hash(v_event.key, p_offset) end, p_error);
  return false;
end
$$;
