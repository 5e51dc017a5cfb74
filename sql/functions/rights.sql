-- Who may do what: each thing a role can be allowed, one row per privilege it takes, as the statement that grants it,
-- with whether the role holds it already. The only place where these lists stand: grant_right executes them, a
-- migration uses them to keep what was granted, `sluice doctor` to say what is missing. Reads catalogs only.
--
-- `publish`, `append` and `manage` go through functions that run with their owner's rights, so they take no privilege
-- on a table that could be used for anything else. `relay` moves and tidies with its own rights: all but migrating.
-- What is named here and not there has no statement and is held by nobody: a right that is half there is none.
create or replace function :"schema".rights(p_role text default current_user)
returns table (may text, statement text, held boolean)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with wanted (may, kind, names, privileges) as (values
    ('{publish,append,read,consume,manage,relay}'::text[], 'schema', null::text[], '{usage}'::text[]),
    ('{publish,append,read,consume,manage}', 'table', '{migrations}', '{select}'), -- connect looks at the version
    ('{publish,append,read,consume,manage}', 'function', '{rights}', '{execute}'),
    ('{publish}', 'function', '{publish,publish_many,broadcast}', '{execute}'),
    ('{append}', 'function', '{append,append_batch,ring_readers}', '{execute}'),
    ('{read,consume,manage}', 'table', '{streams,events}', '{select}'),
    ('{read,consume}', 'table', '{ephemerals,presence,presence_holders}', '{select}'),
    ('{read,consume}', 'function', '{enter_presence,leave_presence,renew_presence}', '{execute}'),
    ('{read,consume,manage}', 'function', '{estimate_bytes,offset_before}', '{execute}'),
    ('{read,consume}', 'function', '{record_stats,expire_stats}', '{execute}'), -- who serves readers
    ('{read,consume,manage}', 'table', '{stats_history}', '{select}'),
    ('{consume}', 'function', '{ensure_group,claim,settle,ack_events,renew_member,pause_group,seek_group,delete_group,'
      'requeue_dead,drop_dead}', '{execute}'),
    ('{consume,manage}', 'table', '{groups,group_states,pieces,leases,members,dead_letters}', '{select}'),
    ('{consume,manage}', 'function', '{group_stats}', '{execute}'),
    ('{manage}', 'function', '{create_stream,configure_stream,close_stream,trim_stream,delete_stream,'
      'drop_undeliverable}', '{execute}'),
    ('{manage}', 'table', '{undeliverable}', '{select}'),
    ('{relay}', 'function', null, '{execute}'), -- null: all of that kind
    ('{relay}', 'table', null, '{select,insert,update,delete,truncate}'),
    ('{relay}', 'sequence', null, '{usage,select,update}')
  ), object (kind, oid, name, label) as (
    select 'schema', n.oid, n.nspname, quote_ident(n.nspname) from pg_namespace n where n.nspname = :'schema'
    union all
    select case c.relkind when 'S' then 'sequence' else 'table' end, c.oid, c.relname, c.oid::regclass::text
    from pg_class c where c.relnamespace = to_regnamespace(quote_ident(:'schema')) and c.relkind in ('r', 'p', 'S')
    union all
    select 'function', p.oid, p.proname, p.oid::regprocedure::text
    from pg_proc p where p.pronamespace = to_regnamespace(quote_ident(:'schema'))
  )
  select m, case when o.oid is not null then format('grant %s on %s %s to %I', p, o.kind, o.label, p_role) end,
    case o.kind
      when 'schema' then has_schema_privilege(p_role, o.oid, p)
      when 'table' then has_table_privilege(p_role, o.oid, p)
      when 'sequence' then has_sequence_privilege(p_role, o.oid, p)
      when 'function' then has_function_privilege(p_role, o.oid, p)
      else false
    end
  from wanted w cross join unnest(w.may) m cross join unnest(w.privileges) p
  cross join unnest(coalesce(w.names, array[null])) named
  left join object o on o.kind = w.kind and (named is null or o.name = named)
$$;
