-- Lets a role do one thing: 'publish', 'append', 'read', 'consume', 'manage' or 'relay' (see rights). For the owner of
-- the schema. May be called again at any time; a migration calls it for who held the right before.
create or replace function :"schema".grant_right(p_role text, p_right text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_statement text;
begin
  if p_right is null or not exists (select from :"schema".rights() r where r.may = p_right) then
    raise exception 'there is no right %', coalesce(quote_literal(p_right), 'null') using errcode = '22023',
      hint = 'give one of ' || (select string_agg(distinct quote_literal(r.may), ', ') from :"schema".rights() r);
  end if;
  for v_statement in select r.statement from :"schema".rights(p_role) r where r.may = p_right and r.statement is not null loop
    execute v_statement;
  end loop;
end
$$;
