// What the current user may do with Sluice's schema: publish, append, read, consume, manage, relay. The schema itself
// knows what each takes (sql/functions/rights.sql). A process that may not relay works, but its published events wait for
// one that may.
import { escapeIdentifier, type Client } from 'pg';
import { bad, ok, warn, type Finding } from './finding.ts';
import { oneRow } from './probe.ts';

interface Access {
  readonly user: string;
  readonly database: string;
  /** Whether it may create schemas there. */
  readonly creates: boolean;
  /** Null: there is no such schema. */
  readonly usage: boolean | null;
  /** Whether it may ask for its rights; every one of them includes that. */
  readonly asks: boolean;
}

const accessStatement = `
  select current_user as "user", current_database() as database,
    has_database_privilege(current_database(), 'create') as creates, (
      select has_schema_privilege(oid, 'usage') from pg_namespace where nspname = $1
    ) as usage, exists (
      select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname = $1 and p.proname = 'rights' and has_function_privilege(p.oid, 'execute')
    ) as asks`;

interface Right {
  readonly may: string;
  readonly held: boolean;
}

/** No finding when there is no such schema, and the user may create it. */
export async function examinePrivileges(client: Client, schema: string): Promise<Finding[]> {
  const access = await oneRow<Access>(client, accessStatement, [schema]);
  const { user, usage, asks } = access;
  if (usage === null) return access.creates ? [] : [mayNotCreate(access)];
  const call = (right: string): string =>
    `as the owner of the schema: select ${escapeIdentifier(schema)}.grant_right('${user.replaceAll("'", "''")}', '${right}')`;
  const choice = `${call('read')}, or 'publish', 'append', 'consume', 'manage', 'relay'`;
  const name = `user ${JSON.stringify(user)}`;
  if (!usage) return [bad('privileges', `${name} may not use schema ${escapeIdentifier(schema)}`, choice)];
  const rights = asks ? await rightsIn(client, schema) : [];
  const may = rights.filter(({ held }) => held).map((right) => right.may);
  if (may.length === 0) return [bad('privileges', `${name} was granted no right whole`, choice)];
  const all = `${name} may ${may.join(', ')}`;
  if (may.length === rights.length) return [ok('privileges', all)];
  return [warn('privileges', `${all}, and no more`, `fine if that is meant; else, ${call('relay')}`)];
}

function mayNotCreate({ user, database }: Access): Finding {
  return warn(
    'privileges',
    `user ${JSON.stringify(user)} may not create schemas in database ${JSON.stringify(database)}, as the first migration does`,
    `migrate as a user who may, or as the owner of the database: grant create on database ${escapeIdentifier(database)} to ${escapeIdentifier(user)}`,
  );
}

async function rightsIn(client: Client, schema: string): Promise<Right[]> {
  const { rows } = await client.query<Right>(
    `select may, bool_and(held) as held from ${escapeIdentifier(schema)}.rights() group by may
     order by array_position('{read,consume,publish,append,manage,relay}', may)`,
  );
  return rows;
}
