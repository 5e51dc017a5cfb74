-- Takes back what is left of a group's expired leases, up to p_limit of them; the caller holds the group. Due at once.
-- An event that was alone in its lease has a strike, and is given up after p_max_attempts; among others, nobody knows
-- whose fault it was: the first, most likely the one in hand, then stands alone, and the rest in two halves, until the
-- culprit is found. Returns how many were given up. What somebody is acknowledging in an open transaction is locked, and left for the next time.
create or replace function :"schema".reap_leases(p_group bigint, p_max_attempts integer, p_limit integer default 100)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
  v_token uuid;
  v_acked int8multirange;
  v_left bigint;
  v_row record;
  v_range int8range;
  v_middle bigint;
  v_dead bigint := 0;
  v_due timestamptz; -- of a keyed group: no clock may put it behind what comes after it
begin
  for v_token in
    select distinct x.token from (
      select l.token from :"schema".leases l where l.group_id = p_group and l.expires_at <= clock_timestamp()
      order by l.expires_at limit p_limit for update skip locked
    ) x
  loop
    -- Later statements: they see what was acknowledged before the lock was to be had. A lease of several rows whose
    -- others are locked is not whole yet.
    continue when (select count(*) from :"schema".leases l where l.token = v_token) <>
      (select count(*) from (select from :"schema".leases l where l.token = v_token for update skip locked) x);
    v_acked := coalesce((select range_agg(r) from :"schema".acks a, unnest(a.events) r where a.token = v_token), '{}');
    select coalesce(sum(upper(r) - lower(r)), 0) into v_left
    from :"schema".leases l, unnest(l.open - v_acked) r where l.token = v_token;
    for v_row in delete from :"schema".leases l where l.token = v_token returning l.*, l.open - v_acked as rest loop
      if v_left = 1 and not isempty(v_row.rest) then
        if :"schema".fail_event(p_group, lower(v_row.rest), v_row.attempts, v_row.strikes, v_row.partition,
            'the lease expired: its consumer died, stopped or could not reach the database', null, p_max_attempts, 0, 0) then
          v_dead := v_dead + 1;
        end if;
        continue;
      end if;
      continue when isempty(v_row.rest);
      v_due := case when v_row.partition is null then clock_timestamp() else '-infinity' end;
      insert into :"schema".pieces (group_id, events, due_at, attempts, strikes, suspect, partition)
      values (p_group, int8multirange(int8range(lower(v_row.rest), lower(v_row.rest) + 1)), v_due, v_row.attempts,
        v_row.strikes, true, v_row.partition);
      for v_range in select unnest(v_row.rest - int8multirange(int8range(lower(v_row.rest), lower(v_row.rest) + 1))) loop
        v_middle := (lower(v_range) + upper(v_range)) / 2;
        insert into :"schema".pieces (group_id, events, due_at, attempts, strikes, suspect, partition)
        select p_group, int8multirange(h), v_due, v_row.attempts, v_row.strikes, true, v_row.partition
        from unnest(array[int8range(lower(v_range), v_middle), int8range(v_middle, upper(v_range))]) h where not isempty(h);
      end loop;
    end loop;
    delete from :"schema".acks a where a.token = v_token;
  end loop;
  return v_dead;
end
$$;
