-- Says that a lease is over.
create or replace function :"schema".refuse_lease(p_token uuid) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'the lease % is over: it expired, was acknowledged or released, or its group was moved or deleted', p_token
    using errcode = 'SL008', hint = 'its events are handed out again; extend a lease in time, or give leaseMs more room';
end
$$;
