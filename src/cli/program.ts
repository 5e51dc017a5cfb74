// The grammar of the command line: its options and commands, and how commander is kept from printing or exiting by
// itself. What a command does stands in commands/, one file each.
import { Command, Option } from 'commander';
import { addAppend } from './commands/append.ts';
import { addConfigure } from './commands/configure.ts';
import { addCreate } from './commands/create.ts';
import { addDead } from './commands/dead.ts';
import { addDelete } from './commands/delete.ts';
import { addDev } from './commands/dev.ts';
import { addDoctor } from './commands/doctor.ts';
import { addGroups } from './commands/groups.ts';
import { addInfo } from './commands/info.ts';
import { addMigrate } from './commands/migrate.ts';
import { addPublish } from './commands/publish.ts';
import { addServe } from './commands/serve.ts';
import { addStreams } from './commands/streams.ts';
import { addTail } from './commands/tail.ts';
import { addToken } from './commands/token.ts';
import { addTrim } from './commands/trim.ts';
import { addUndeliverable } from './commands/undeliverable.ts';
import type { Context, GlobalOptions } from './context.ts';
import { packageVersion } from './version.ts';

const commands = [
  addDev,
  addServe,
  addToken,
  addMigrate,
  addCreate,
  addConfigure,
  addDelete,
  addInfo,
  addAppend,
  addPublish,
  addTail,
  addTrim,
  addStreams,
  addGroups,
  addDead,
  addUndeliverable,
  addDoctor,
];

const epilogue = `
Which Postgres: --database-url or DATABASE_URL; else that of a \`sluice dev\` running in this folder. dev itself
starts one if none is named, with its data in .sluice/postgres.
Data goes to standard output, everything else to standard error.
Exit codes: 0 done, 1 failed, 2 wrong usage.`;

/** The program, for one parse. It throws commander's errors and prints nothing but help. */
export function createProgram(context: Omit<Context, 'globals'>): Command {
  const program = new Command('sluice')
    .description('Event streams in the Postgres you already run.')
    .version(packageVersion(), '--version')
    .addOption(new Option('--database-url <url>', 'the Postgres to use').env('DATABASE_URL'))
    .addOption(
      new Option('--schema <name>', "where Sluice's tables are (default: sluice)").env('SLUICE_SCHEMA'),
    )
    .option('--json', 'data and errors as JSON, one value per line')
    .addHelpText('after', epilogue)
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ outputError: () => {} })
    .exitOverride();
  const globals = (): GlobalOptions => ({
    ...program.opts(),
    databaseUrlSource: program.getOptionValueSource('databaseUrl') === 'cli' ? 'cli' : 'env',
  });
  for (const add of commands) add(program, { ...context, globals });
  return program;
}
