-- Assigning an offset needs a snapshot younger than the stream's lock; under REPEATABLE READ and above the snapshot
-- never moves, so the head would be stale.
create or replace function :"schema".require_read_committed() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    raise exception 'an offset cannot be assigned at isolation level %', current_setting('transaction_isolation')
      using errcode = 'SL006', hint = 'use read committed, or publish instead of append';
  end if;
end
$$;
