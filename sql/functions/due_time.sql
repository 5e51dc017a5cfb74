-- When an event is due that is to be delivered at a time, or after a delay; null: now.
create or replace function :"schema".due_time(p_deliver_at timestamptz, p_delay_ms double precision) returns timestamptz
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_due_at timestamptz := p_deliver_at;
begin
  if p_delay_ms is not null then
    if p_deliver_at is not null then
      raise exception 'both deliver_at and delay_ms are given' using errcode = '22023', hint = 'give one of them';
    end if;
    if not p_delay_ms between 0 and 3.2e12 then -- NaN and infinity are not either
      raise exception 'delay_ms is %', p_delay_ms
        using errcode = '22023', hint = 'give milliseconds, at least 0 and at most a hundred years';
    end if;
    v_due_at := v_now + make_interval(secs => p_delay_ms / 1000);
  elsif p_deliver_at is not null and not isfinite(p_deliver_at) then
    raise exception 'deliver_at is %', p_deliver_at using errcode = '22023', hint = 'give a point in time';
  end if;
  return case when v_due_at > v_now then v_due_at end;
end
$$;
