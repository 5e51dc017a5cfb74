// The Postgres of `dev`: the one that is named or that another `dev` in this folder has, else one of its own, started
// with the data in .sluice/postgres from embedded binaries or an installed PostgreSQL.
import { join } from 'node:path';
import { startPostgres } from '../embedded.ts';
import { messageOf } from '../util/errors.ts';
import { CommandError } from './command-error.ts';
import type { Context } from './context.ts';
import { devFolder, makeDevFolder } from './dev-file.ts';
import { findTarget, schemaOf, type Target } from './target.ts';

export interface DevDatabase extends Target {
  /** Shuts down what was started for it. */
  stop(): Promise<void>;
}

export async function openDevDatabase({ out, stop, signal, globals }: Context): Promise<DevDatabase> {
  const target = await findTarget(globals());
  if (target !== undefined) return { ...target, stop: () => Promise.resolve() };
  const cwd = process.cwd();
  try {
    makeDevFolder(cwd);
  } catch (error) {
    const message = `the data cannot be kept in ${devFolder(cwd)} (${messageOf(error)}); start in a folder that you may write to, or set DATABASE_URL`;
    throw new CommandError('no_database', message, { cause: error });
  }
  const ended = (details: { readonly err?: Error }, message: string): void =>
    stop.fail(new CommandError('failed', details.err?.message ?? message));
  const logger = {
    debug: () => {},
    info: () => {},
    warn: (_: object, message: string) => out.warn(message),
    error: ended,
  };
  const postgres = await startPostgres({ dataDir: join(devFolder(cwd), 'postgres'), signal, logger }).catch(
    (error: unknown) => {
      signal.throwIfAborted();
      throw new CommandError('no_database', messageOf(error), { cause: error });
    },
  );
  return {
    connectionString: postgres.connectionString,
    schema: schemaOf(globals()),
    source: `PostgreSQL ${postgres.version} with the data in .sluice/postgres`,
    stop: () => postgres.stop(),
  };
}
