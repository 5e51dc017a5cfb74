-- Deals the next events of a keyed group's stream out to its partitions, up to p_limit of them: one read of the log for
-- all partitions. The caller holds the group. Returns up to which offset; p_cursor if there is nothing, or too much lies
-- dealt out already (some key, or some consumer, is slow: what waits is bounded). Due since 'epoch': due_rows says why.
create or replace function :"schema".dispatch(
  p_group bigint, p_stream bigint, p_partitions integer, p_cursor bigint, p_limit integer,
  p_low bigint, p_due_low timestamptz
) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  c_max_pieces constant integer := 10000;
  v_to bigint;
begin
  if (select count(*) from (
      select from :"schema".due_rows(p_group, 'infinity', p_low, p_due_low) limit c_max_pieces
    ) x) >= c_max_pieces then
    return p_cursor;
  end if;
  with event as materialized (
    select e."offset", :"schema".key_hash(e.key, e."offset") as hash from :"schema".events e
    where e.stream_id = p_stream and e."offset" > p_cursor and e."offset" <= p_cursor + p_limit
  ), dealt as (
    insert into :"schema".pieces (group_id, events, due_at, attempts, strikes, suspect, partition)
    select p_group, range_agg(int8range(e."offset", e."offset" + 1)), 'epoch', 0, 0, false,
      ((e.hash % p_partitions) + p_partitions) % p_partitions
    from event e group by 7
  )
  select max(e."offset") into v_to from event e;
  return coalesce(v_to, p_cursor);
end
$$;
