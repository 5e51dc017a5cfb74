-- Refuses options that a stream cannot have, before anything is written. The same rules as the library's.
create or replace function :"schema".check_stream_options(p_options jsonb) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_option record;
begin
  if p_options is null or jsonb_typeof(p_options) <> 'object' then
    raise exception 'the options of a stream must be an object, not %', coalesce(p_options::text, 'null') using errcode = '22023';
  end if;
  for v_option in select o.key, o.value from jsonb_each(p_options) o loop
    if v_option.key not in ('maxAgeMs', 'maxCount', 'maxBytes', 'idempotencyWindowMs') then
      raise exception '% is no option of a stream', quote_literal(left(v_option.key, 80))
        using errcode = '22023', hint = 'there are maxAgeMs, maxCount, maxBytes and idempotencyWindowMs';
    end if;
    if jsonb_typeof(v_option.value) <> 'null' and (jsonb_typeof(v_option.value) <> 'number'
        or v_option.value::text !~ '^[1-9][0-9]{0,15}$' or v_option.value::text::bigint > 9007199254740991) then
      raise exception '% is %', v_option.key, left(v_option.value::text, 80)
        using errcode = '22023', hint = 'give a whole number from 1 to 9007199254740991, or null for no bound';
    end if;
    if v_option.key = 'idempotencyWindowMs' and v_option.value > '3155760000000' then -- as jsonb: null is less
      raise exception 'idempotencyWindowMs is %', v_option.value
        using errcode = '22023', hint = 'give at most a hundred years, 3155760000000';
    end if;
  end loop;
end
$$;
