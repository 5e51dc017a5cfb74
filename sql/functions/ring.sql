-- Wakes the sleeping relay when this transaction commits. A full notification queue would fail the user's transaction,
-- so past half of it nothing is sent: the fallback poll covers for the doorbell then.
create or replace function :"schema".ring() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if pg_notification_queue_usage() < 0.5 then
    perform pg_notify(:'relay_channel', '');
  end if;
end
$$;
