-- Takes from a role all that it was granted in the schema. For the owner of the schema.
create or replace function :"schema".revoke_rights(p_role text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_kind text;
begin
  foreach v_kind in array array['tables', 'sequences', 'functions'] loop
    execute format('revoke all on all %s in schema %I from %I', v_kind, :'schema', p_role);
  end loop;
  execute format('revoke all on schema %I from %I', :'schema', p_role);
end
$$;
