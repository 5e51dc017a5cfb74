-- What readers have seen must survive a crash, so the transaction that assigns offsets is flushed. Set inside the
-- body: a `set` clause on a function ends before the commit. Raises `off` and `local` only: never lowers remote_apply.
create or replace function :"schema".flush_on_commit() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('synchronous_commit') in ('off', 'local') then
    perform set_config('synchronous_commit', 'on', true);
  end if;
end
$$;
