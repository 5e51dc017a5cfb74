// What the current user may do with Sluice's schema: read, publish, append, relay (which includes letting events go). The first is needed by everybody; a
// process that may not relay works, but its published events wait for one that may.
import type { Client } from 'pg';
import { bad, ok, warn, type Finding } from './finding.ts';
import { oneRow, quoteIdent } from './probe.ts';

interface Rights {
  readonly user: string;
  /** Null: there is no such schema. */
  readonly usage: boolean | null;
  readonly read: boolean;
  readonly publish: boolean;
  readonly append: boolean;
  readonly relay: boolean;
}

const statement = `
  with functions as (
    select p.proname as name, has_function_privilege(p.oid, 'execute') as allowed
    from pg_proc p where p.pronamespace = (select oid from pg_namespace where nspname = $1)
  ), tables as (
    select c.relname as name, has_table_privilege(c.oid, 'select') as s, has_table_privilege(c.oid, 'insert') as i,
      has_table_privilege(c.oid, 'update') as u, has_table_privilege(c.oid, 'delete') as d
    from pg_class c where c.relnamespace = (select oid from pg_namespace where nspname = $1)
  )
  select current_user as "user", (
      select has_schema_privilege(oid, 'usage') from pg_namespace where nspname = $1
    ) as usage,
    (select bool_and(s) from tables where name in ('streams', 'events')) as read,
    (select bool_and(allowed) from functions where name in ('publish', 'publish_many')) as publish,
    (select bool_and(allowed) from functions where name = 'append_batch') as append,
    (select bool_and(allowed) from functions
      where name in ('pass', 'move_pending', 'retain_stream', 'weigh_stream', 'move_start', 'purge_events'))
      and (select bool_and(s and case name when 'streams' then u when 'outbox' then d when 'undeliverable' then i
          when 'events' then i and d else i and u and d end)
        from tables where name in ('streams', 'outbox', 'events', 'undeliverable', 'purges', 'weights')) as relay`;

/** No finding when there is no such schema. */
export async function examinePrivileges(client: Client, schema: string): Promise<Finding[]> {
  const rights = await oneRow<Rights>(client, statement, [schema]);
  return rights.usage === null ? [] : [judge(rights, schema)];
}

function judge(rights: Rights, schema: string): Finding {
  const { user } = rights;
  const may = (['read', 'publish', 'append', 'relay'] as const).filter((right) => rights[right]);
  const all = `user ${JSON.stringify(user)} may ${may.join(', ') || 'do nothing'}`;
  if (!rights.usage) {
    const grant = `grant usage on schema ${quoteIdent(schema)} to ${quoteIdent(user)}, and what it needs in it`;
    return bad('privileges', `user ${JSON.stringify(user)} may not use schema ${quoteIdent(schema)}`, grant);
  }
  if (!rights.read) {
    const grant = `grant select on all tables in schema ${quoteIdent(schema)} to ${quoteIdent(user)}`;
    return bad('privileges', `${all}, but not read`, grant);
  }
  if (may.length === 4) return ok('privileges', all);
  return warn(
    'privileges',
    `${all}, and no more`,
    'fine if that is meant; else connect as the owner of the schema',
  );
}
