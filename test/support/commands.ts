// Owns running commands against the database of a test file: any of them, or one that is to succeed, for what it prints.
import { expect } from 'vitest';
import type { Database } from './database.ts';
import { useCli, type Cli, type CliOptions } from './process.ts';

export interface Commands {
  /** One that goes on: the test waits for what it says. */
  readonly start: Cli['start'];
  readonly run: Cli['run'];
  /** What a command that succeeds has printed; it has nothing to say on standard error. */
  readonly done: (...args: string[]) => Promise<string>;
  /** The same with `--json` before it: the values, one for each line. */
  readonly json: (...args: string[]) => Promise<unknown[]>;
}

/** Call it once, at the top of a test file. */
export const useCommands = (db: Database): Commands => {
  const cli = useCli();
  const here = (options: CliOptions = {}): CliOptions => ({
    ...options,
    env: { DATABASE_URL: db.connectionString, ...options.env },
  });
  const run: Commands['run'] = (args, options) => cli.run(args, here(options));
  const done: Commands['done'] = async (...args) => {
    const { code, stdout, stderr } = await run(args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    return stdout;
  };
  const json: Commands['json'] = async (...args) => {
    const lines = (await done('--json', ...args)).split('\n');
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as unknown);
  };
  return { start: (args, options) => cli.start(args, here(options)), run, done, json };
};
