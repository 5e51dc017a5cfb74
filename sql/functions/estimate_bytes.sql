-- About how many bytes of data the events after p_from and up to p_to have: exact up to a thousand events; else from two
-- hundred of them, one from each equal part of the log, at a place in it that follows no pattern.
create or replace function :"schema".estimate_bytes(p_stream_id bigint, p_from bigint, p_to bigint) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
begin
  if p_to - p_from <= 1000 then
    return (select coalesce(sum(e.size), 0) from :"schema".events e
      where e.stream_id = p_stream_id and e."offset" > p_from and e."offset" <= p_to);
  end if;
  -- A subquery per place, not a join: a join planned while the table was small reads the whole stream for each.
  return (
    select (avg(place.size) * (p_to - p_from))::bigint
    from (
      select (
        select e.size from :"schema".events e
        where e.stream_id = p_stream_id
          and e."offset" = p_from + 1 + trunc((n + (hashint4(n) & 1023) / 1024.0) * (p_to - p_from) / 200)::bigint
      ) as size
      from generate_series(0, 199) n
    ) place
  );
end
$$;
