-- Moves what has come due since p_from into the outbox, in order of due time, at most p_limit events (and what the
-- transaction cut by that delayed to the same time). Returns whether more is due, and when the next event is.
--
-- One at a time, by a lock that is tried and never waited for: two movers side by side would overtake each other. It is
-- taken in an earlier statement than the rows are read, and given back after they are committed.
--
-- The rows become one transaction's in the outbox, published now, so they keep this order in the log and stand behind
-- everything that was committed before. p_from spares this look the index entries of what was moved lately, which vacuum
-- cannot remove behind an old snapshot.
create or replace function :"schema".move_due(p_from timestamptz, p_limit integer default 5000)
returns table (more boolean, next_due timestamptz)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_last record;
begin
  more := false;
  next_due := (select d.due_at from :"schema".delayed d where d.due_at >= p_from order by d.due_at limit 1);
  if next_due is null or next_due > v_now then
    return next;
    return;
  end if;
  if not pg_try_advisory_xact_lock(:due_key) then
    more := true;
    return next;
    return;
  end if;
  select d.due_at, d.first_id into v_last from :"schema".delayed d
  where d.due_at >= p_from and d.due_at <= v_now order by d.due_at, d.first_id, d.id offset p_limit - 1 limit 1;
  more := found;
  with due as (
    delete from :"schema".delayed d
    where d.due_at >= p_from and d.due_at <= v_now
      and (d.due_at, d.first_id) <= (coalesce(v_last.due_at, v_now), coalesce(v_last.first_id, 9223372036854775807))
    returning d.*
  )
  insert into :"schema".outbox (slot, stream_id, stream, type, key, visible_to, exclude, headers, idempotency_key, call_id, data)
  select c.last_value, d.stream_id, d.stream, d.type, d.key, d.visible_to, d.exclude, d.headers, d.idempotency_key, d.call_id, d.data
  from :"schema".outbox_slot c, due d
  order by d.due_at, d.first_id, d.id;
  next_due := (select d.due_at from :"schema".delayed d where d.due_at >= p_from order by d.due_at limit 1);
  return next;
end
$$;
