-- Settles a lease, or a part of it. Each parameter names some of its events; what none of them names stays leased.
--
--   p_done      handled; null: all that nothing else names
--   p_acked     acknowledged by ack_events in transactions that should have committed; those that have not are answered
--               in unacked, and stay leased
--   p_failed    failed by their own fault, with p_errors and p_retry_at (null: after a backoff) beside them; fail_event
--               says what p_max_attempts, p_initial_ms and p_max_ms decide
--   p_returned  never handed to a handler: they go back uncounted
--   p_again     sets of which one event failed, and nobody knows which: each goes back by itself, after p_again_ms; with
--               p_again_ms 0, sets that nobody waits for any more: no event is suspected of anything
--
-- The group's row is locked only where events are missed, and after the lease: seek_group, which holds it and takes leases
-- away, may be in a deadlock with that. One of the two is undone then, and is to be tried again.
--
-- p_doubt: some of those that failed may yet be acknowledged, by a transaction of which nobody knows how it ended. It is
-- waited for, at most two seconds, and what it acknowledged is done.
-- p_extend_ms: what is left is leased for so long from now at least. An extension never brings the end nearer.
--
-- Returns when the lease ends (null: nothing is left of it), how many events were given up, those of p_acked that were not
-- acknowledged, and in more whether partitions of a keyed group that this lease held have something to be had: whoever
-- looked meanwhile did not get it.
--
-- Raises SL008 if the lease is over, whether somebody has taken its events back yet or not, or its group or stream was
-- deleted: nothing is changed then, and in a transaction its effects are undone with it. Part of the caller's transaction,
-- whatever its isolation level, so nothing here sets how it commits.
create or replace function :"schema".settle(
  p_token uuid,
  p_done int8multirange default '{}',
  p_returned int8multirange default '{}',
  p_failed bigint[] default '{}',
  p_errors text[] default '{}',
  p_retry_at timestamptz[] default '{}',
  p_acked int8multirange default '{}',
  p_again int8multirange[] default '{}',
  p_again_ms double precision default 0,
  p_doubt boolean default false,
  p_extend_ms double precision default null,
  p_max_attempts integer default 10,
  p_initial_ms double precision default 1000,
  p_max_ms double precision default 600000,
  out expires_at timestamptz,
  out dead bigint,
  out unacked int8multirange,
  out more boolean
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_now timestamptz;
  v_open int8multirange;
  v_failed int8multirange;
  v_again int8multirange;
  v_gone int8multirange;
  v_acked int8multirange := '{}';
  v_due timestamptz;
  v_group bigint;
  v_partitions integer[];
  v_rows bigint;
  v_row record;
begin
  dead := 0;
  unacked := '{}';
  more := false;
  -- The common case: all of it is done.
  if p_done is null and cardinality(p_failed) = 0 and isempty(p_returned) and isempty(p_acked)
      and cardinality(p_again) = 0 then
    with gone as (
      delete from :"schema".leases l where l.token = p_token and l.expires_at > clock_timestamp()
        -- offset 0: asked of the lease found; as a join it would be a reason to go through the group's leases
        and exists (
          select from :"schema".groups g join :"schema".streams s on s.id = g.stream_id where g.id = l.group_id offset 0)
      returning l.group_id, l.partition
    )
    select count(*), min(g.group_id), array_agg(g.partition) filter (where g.partition is not null)
    into v_rows, v_group, v_partitions from gone g;
    if v_rows = 0 then
      perform :"schema".refuse_lease(p_token);
    end if;
    delete from :"schema".acks a where a.token = p_token; -- those that were told of before
    more := coalesce(:"schema".waits_in(v_group, v_partitions, clock_timestamp()), false);
    return;
  end if;
  if p_doubt then
    perform set_config('lock_timeout', '2s', true);
    perform from :"schema".leases l where l.token = p_token order by l.n for update;
  end if;
  -- Only for what changes no key: a handler's open transaction holds the row for key share, and nobody waits for it.
  perform from :"schema".leases l where l.token = p_token order by l.n for no key update;
  v_now := clock_timestamp();
  select range_agg(r), min(l.expires_at), min(l.group_id),
    array_agg(distinct l.partition) filter (where l.partition is not null)
  into v_open, expires_at, v_group, v_partitions
  from :"schema".leases l cross join lateral unnest(l.open) r where l.token = p_token;
  if v_open is null or expires_at <= v_now or not exists (
      select from :"schema".groups g join :"schema".streams s on s.id = g.stream_id where g.id = v_group) then
    perform :"schema".refuse_lease(p_token);
  end if;
  v_failed := coalesce((select range_agg(int8range(f, f + 1)) from unnest(p_failed) f), '{}');
  v_again := coalesce((select range_agg(r) from unnest(p_again) a cross join lateral unnest(a) r), '{}');
  if not isempty(p_acked) or p_doubt then
    v_acked := coalesce(
      (select range_agg(r) from :"schema".acks a cross join lateral unnest(a.events) r where a.token = p_token), '{}');
    unacked := p_acked - v_acked;
    v_acked := v_acked * (p_acked + v_failed + v_again);
  end if;
  v_gone := v_open * (v_failed + v_again + p_returned + v_acked + coalesce(p_done, v_open - unacked));

  for v_row in
    select f.*, l.group_id, l.attempts, l.strikes, l.partition
    from unnest(p_failed, p_errors, p_retry_at) as f ("offset", error, retry_at)
    join :"schema".leases l on l.token = p_token and l.open @> f."offset" and not v_acked @> f."offset"
    order by f."offset"
  loop
    if :"schema".fail_event(v_row.group_id, v_row."offset", v_row.attempts, v_row.strikes, v_row.partition, v_row.error,
        v_row.retry_at, p_max_attempts, greatest(p_initial_ms, 1), p_max_ms) then
      dead := dead + 1;
    end if;
  end loop;
  if not isempty(p_returned) then
    insert into :"schema".pieces (group_id, events, due_at, attempts, strikes, suspect, partition)
    select l.group_id, l.open * p_returned, case when l.partition is null then v_now else '-infinity' end,
      l.attempts - 1, l.strikes, l.suspect, l.partition
    from :"schema".leases l where l.token = p_token and l.open && p_returned;
  end if;
  v_due := v_now + p_again_ms * interval '1 ms';
  insert into :"schema".pieces (group_id, events, due_at, attempts, strikes, suspect, partition)
  select l.group_id, l.open * a - v_acked, v_due, l.attempts, l.strikes, l.suspect or p_again_ms > 0, null
  from unnest(p_again) a join :"schema".leases l on l.token = p_token and not isempty(l.open * a - v_acked)
  where l.partition is null;
  -- In a keyed group each event by itself, so that nothing of its key goes before it.
  insert into :"schema".pieces (group_id, events, due_at, attempts, strikes, suspect, partition, key_hash)
  select l.group_id, int8multirange(int8range(e."offset", e."offset" + 1)), v_due, l.attempts, l.strikes,
    l.suspect or p_again_ms > 0, l.partition, :"schema".key_hash(e.key, e."offset")
  from :"schema".leases l cross join lateral unnest(l.open * v_again - v_acked) r
  join :"schema".groups g on g.id = l.group_id
  cross join lateral (
    select x."offset", x.key from :"schema".events x
    where x.stream_id = g.stream_id and x."offset" >= lower(r) and x."offset" < upper(r) offset 0
  ) e
  where l.token = p_token and l.partition is not null;
  get diagnostics v_rows = row_count;
  if not isempty(v_again) and v_partitions is not null then -- the log let go of the others
    update :"schema".groups g set missed = g.missed + a.events - v_rows
    from (select sum(upper(r) - lower(r)) as events from unnest(v_open * v_again - v_acked) r) a
    where g.id = v_group and a.events > v_rows;
  end if;
  more := coalesce(:"schema".waits_in(v_group, v_partitions, clock_timestamp()), false);
  if v_gone = v_open then
    delete from :"schema".leases l where l.token = p_token;
    delete from :"schema".acks a where a.token = p_token;
    expires_at := null;
    return;
  end if;
  if p_extend_ms is not null then
    expires_at := greatest(expires_at, v_now + p_extend_ms * interval '1 ms');
  end if;
  delete from :"schema".leases l where l.token = p_token and l.open <@ v_gone;
  update :"schema".leases l set open = l.open - v_gone, expires_at = settle.expires_at
  where l.token = p_token and (l.open && v_gone or l.expires_at <> settle.expires_at);
end
$$;
