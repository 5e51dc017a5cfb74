-- Empties the slot of ephemerals that was left longest ago, by truncate; whether it did. Only tries, and waits for no
-- lock: a truncate queued behind a reader would make everybody wait who comes after it, and even to ask for the size
-- waits behind who holds the table. What is in that slot is at least ten seconds old. The clock is asked again under
-- the lock: the slot may have become the current one meanwhile.
create or replace function :"schema".sweep_ephemerals() returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_slot integer := (:"schema".ephemeral_slot() + 1) % 3;
  v_table text := format('%I.%I', :'schema', 'ephemerals_' || v_slot);
begin
  execute 'lock table ' || v_table || ' in access share mode nowait';
  if pg_relation_size(v_table::regclass) = 0 then
    return false;
  end if;
  execute 'lock table ' || v_table || ' in access exclusive mode nowait';
  if (:"schema".ephemeral_slot() + 1) % 3 <> v_slot then
    return false;
  end if;
  execute 'truncate ' || v_table;
  return true;
exception when lock_not_available then
  return false;
end
$$;
