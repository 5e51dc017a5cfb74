-- Empties another slot of the outbox by truncate and makes it the current one, so that the space of moved rows comes
-- back even while an old snapshot holds vacuum off. Returns the new slot; -1 when the current one holds less than
-- p_min_bytes; null when no other slot is free now (an open publisher, a reader, rows still pending): try again later.
--
-- Without p_wait_ms it only tries: a truncate queued behind an open publisher makes everyone who looks in that slot
-- wait. With it, it queues for that long at most, for when readers overlap so that the slot is never free by itself.
-- Whether the slot is empty is asked in a later statement, under the lock: nobody has an uncommitted row in it then. A
-- publisher that still believes in this slot inserts after the truncate; readers look in every slot, so nothing is lost.
--
-- While the current slot is small, the slots left before are truncated as soon as they are empty: every pass wades
-- through what an old snapshot keeps of them. Nobody publishes there now, so no publisher waits for that truncate.
create or replace function :"schema".rotate_outbox(p_min_bytes bigint default 0, p_wait_ms integer default 0)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_current bigint;
  v_slot bigint;
  v_table text;
  v_full boolean;
  v_empty boolean;
begin
  perform :"schema".require_read_committed();
  select c.last_value into v_current from :"schema".outbox_slot c;
  -- With what is stored beside the rows: a few large payloads fill a slot whose rows are short.
  v_full := pg_table_size(format('%I.%I', :'schema', 'outbox_' || v_current)::regclass) >= p_min_bytes;
  if v_full and p_wait_ms > 0 then
    perform set_config('lock_timeout', p_wait_ms || 'ms', true);
  end if;
  for v_slot in select (v_current + n) % 3 from generate_series(1, 2) n loop
    v_table := format('%I.%I', :'schema', 'outbox_' || v_slot);
    continue when not v_full and pg_relation_size(v_table::regclass) = 0;
    begin
      execute 'lock table ' || v_table || ' in access exclusive mode'
        || case when v_full and p_wait_ms > 0 then '' else ' nowait' end;
      execute 'select not exists (select from ' || v_table || ')' into v_empty;
      continue when not v_empty;
      if pg_relation_size(v_table::regclass) > 0 then
        execute 'truncate ' || v_table;
      end if;
      if v_full then
        perform setval(:'schema.outbox_slot', v_slot);
        return v_slot;
      end if;
    exception when lock_not_available then
      null;
    end;
  end loop;
  return case when not v_full then -1 end;
end
$$;
