-- Tells the readers of all processes at this transaction's commit that streams have gone on: p_heads names them, as
-- readers read it. Returns whether it does; if not, whoever called tells them after the commit.
--
-- Notifications are queued under one lock of the whole cluster, from just before the commit until its flush has ended.
-- So that no commit of ours waits for another of ours there, only one transaction does this at a time (tried, never
-- waited for). A full queue would fail the transaction, so past half of it nothing is sent.
create or replace function :"schema".ring_readers(p_heads text) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if pg_notification_queue_usage() >= 0.5 or not pg_try_advisory_xact_lock(:ring_key) then
    return false;
  end if;
  perform pg_notify(:'readers_channel', p_heads);
  return true;
end
$$;
