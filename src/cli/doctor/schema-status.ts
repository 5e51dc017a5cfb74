// Which version of Sluice's schema is installed, and whether this package can work on it. The judgement is the
// library's own: it is asked to connect.
import { escapeIdentifier, type Client } from 'pg';
import { connect, SluiceError } from '../../index.ts';
import type { Target } from '../target.ts';
import { bad, ok, type Finding } from './finding.ts';
import { oneRow, openProbe } from './probe.ts';

export interface SchemaStatus {
  /** Null: nothing is installed. */
  readonly installed: number | null;
  /** Why this package cannot work on it. */
  readonly problem?: SluiceError | undefined;
}

/** @throws what opening a connection throws */
export async function schemaStatus({ connectionString, schema }: Target): Promise<SchemaStatus> {
  const problem = await connectionProblem(connectionString, schema);
  if (problem !== undefined && problem.code !== 'schema_mismatch') throw problem;
  const client = await openProbe(connectionString);
  try {
    return { installed: await installedVersion(client, schema), problem };
  } finally {
    await client.end();
  }
}

export async function examineSchema(client: Client, { connectionString, schema }: Target): Promise<Finding> {
  const problem = await connectionProblem(connectionString, schema);
  if (problem === undefined) {
    return ok(
      'schema',
      `${escapeIdentifier(schema)} is installed, version ${await installedVersion(client, schema)}`,
    );
  }
  // The library's messages say what, and after the last semicolon what to do.
  const [, what = problem.message, remedy = 'see the message'] = /^(.*); (.*)$/.exec(problem.message) ?? [];
  // Of privileges the library's remedy is to ask here.
  return bad(
    'schema',
    what,
    problem.code === 'permission_denied' ? 'grant what is missing: see privileges' : remedy,
  );
}

async function connectionProblem(connectionString: string, schema: string): Promise<SluiceError | undefined> {
  try {
    const sluice = await connect({ connectionString, schema, relay: false });
    await sluice.close();
    return undefined;
  } catch (error) {
    if (error instanceof SluiceError) return error;
    throw error;
  }
}

async function installedVersion(client: Client, schema: string): Promise<number | null> {
  const table = `${escapeIdentifier(schema)}.migrations`;
  const { found } = await oneRow<{ found: boolean }>(client, 'select to_regclass($1) is not null as found', [
    table,
  ]);
  if (!found) return null;
  return (await oneRow<{ version: number | null }>(client, `select max(version) as version from ${table}`))
    .version;
}
