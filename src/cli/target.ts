// Which Postgres a command works on: the one that is named, else that of a `dev` running in this folder. (`dev` itself
// goes on from there: see dev-database.ts.) Also opens it, with errors that say where its address came from.
import { connect, SluiceError, type ConnectOptions, type Sluice } from '../index.ts';
import { isDatabaseUrl, noDatabaseUrl } from '../util/database-url.ts';
import { CommandError, wrongUsage } from './command-error.ts';
import type { Context, GlobalOptions } from './context.ts';
import { findRunningDev } from './dev-file.ts';

export interface Target {
  readonly connectionString: string;
  readonly schema: string;
  /** Where the address comes from, for messages. */
  readonly source: string;
}

/** An empty variable is one that is not set. */
const given = (value: string | undefined): string | undefined => (value === '' ? undefined : value);

export const schemaOf = ({ schema }: GlobalOptions): string => given(schema) ?? 'sluice';

/** The database the command line or the environment names, else that of a running `dev`; undefined if neither. */
export async function findTarget(globals: GlobalOptions): Promise<Target | undefined> {
  const url = given(globals.databaseUrl);
  if (url !== undefined) {
    const source = globals.databaseUrlSource === 'cli' ? '--database-url' : 'DATABASE_URL';
    return { connectionString: checkUrl(url, source), schema: schemaOf(globals), source };
  }
  const dev = await findRunningDev(process.cwd());
  if (dev === undefined) return undefined;
  const schema = given(globals.schema) ?? dev.schema;
  return { connectionString: dev.connectionString, schema, source: `\`sluice dev\` (pid ${dev.pid})` };
}

/** @throws CommandError no_database */
export async function requireTarget(globals: GlobalOptions): Promise<Target> {
  const target = await findTarget(globals);
  if (target !== undefined) return target;
  throw new CommandError(
    'no_database',
    'no database is named: set DATABASE_URL, or give --database-url, or run `npx sluice dev` in this folder',
  );
}

function checkUrl(url: string, source: string): string {
  if (isDatabaseUrl(url)) return url;
  throw wrongUsage(noDatabaseUrl(source));
}

/** Runs `work` with the target's Sluice and closes that, whatever happens. */
export async function withSluice<T>(
  context: Context,
  options: ConnectOptions,
  work: (sluice: Sluice, target: Target) => Promise<T>,
): Promise<T> {
  const target = await requireTarget(context.globals());
  const sluice = await openSluice(target, { signal: context.signal, relay: false, ...options });
  try {
    return await work(sluice, target);
  } finally {
    await sluice.close();
  }
}

export const openSluice = (
  { connectionString, schema, source }: Target,
  options: ConnectOptions,
): Promise<Sluice> => explained(source, () => connect({ ...options, connectionString, schema }));

/** Runs `work` on a database; its errors say where the address came from, and bad options are wrong usage. */
export async function explained<T>(source: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof SluiceError && error.code === 'connection_lost') {
      const message = `${error.message}; see whether that server runs, and whether ${source} is right`;
      throw new CommandError(error.code, message, { cause: error });
    }
    throw error;
  }
}
