-- Sends one message to whoever is connected to the stream, on every process; nothing is kept of it. It goes out with the
-- caller's commit, and not at all after a rollback. A stream that is not there has nobody connected. Call it in a
-- transaction of its own: a commit that notifies takes a lock that all such commits of the cluster share.
--
-- p_visible_to: only to those whom the server in front finds in that audience. p_exclude: not to this connection.
--
-- One that is committed more than ten seconds after this call reaches nobody. Without room in the notification queue
-- nothing is sent: readers find the row with their next poll.
create or replace function :"schema".broadcast(
  p_stream text,
  p_data json,
  p_type text default null,
  p_visible_to text default null,
  p_exclude uuid default null
) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  c_max_bytes constant integer := 65536;
  c_max_slot_bytes constant bigint := 134217728; -- for one slot, that is, for ten seconds
  v_slot smallint := :"schema".ephemeral_slot();
begin
  if p_data is null then
    raise exception 'data is null; broadcast the JSON value null as ''null''' using errcode = 'SL005';
  end if;
  if octet_length(p_data::text) > c_max_bytes then
    raise exception 'the message has % bytes of JSON; the limit is %', octet_length(p_data::text), c_max_bytes
      using errcode = '54000', hint = 'append it as an event, or broadcast where to find it';
  end if;
  if not :"schema".type_is_valid(p_type) then
    perform :"schema".refuse_type(p_type);
  end if;
  perform :"schema".check_stream_name(p_stream);
  perform :"schema".check_visible_to(p_visible_to);
  if pg_table_size(format('%I.%I', :'schema', 'ephemerals_' || v_slot)::regclass) >= c_max_slot_bytes then
    raise exception 'more is broadcast than % MiB in ten seconds', c_max_slot_bytes / 1048576
      using errcode = '53400', hint = 'broadcast less, or try again later';
  end if;
  insert into :"schema".ephemerals (slot, stream, type, visible_to, exclude, data)
  values (v_slot, p_stream, p_type, p_visible_to, p_exclude, p_data);
  if pg_notification_queue_usage() < 0.5 then
    perform pg_notify(:'ephemerals_channel', '');
  end if;
end
$$;
