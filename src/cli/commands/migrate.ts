// `sluice migrate`: installs Sluice's schema or brings it up to date; or shows what it would run, or how things stand.
import type { Command } from 'commander';
import { migrate, printMigrations } from '../../index.ts';
import { waitOrAbort } from '../../util/abort.ts';
import { wrongUsage } from '../command-error.ts';
import type { Context } from '../context.ts';
import { schemaStatus } from '../doctor/schema-status.ts';
import { printable } from '../output.ts';
import { explained, requireTarget, schemaOf } from '../target.ts';

interface MigrateOptions {
  readonly print?: boolean | undefined;
  readonly status?: boolean | undefined;
}

export function addMigrate(program: Command, context: Context): void {
  program
    .command('migrate')
    .description("install Sluice's schema, or bring it up to date")
    .option('--print', 'print the SQL that installs it and change nothing')
    .option(
      '--status',
      'show what is installed and change nothing; fails if that is not what this package needs',
    )
    .action(({ print, status }: MigrateOptions) => {
      if (print && status) throw wrongUsage('--print and --status are two questions; ask one');
      if (print) return printSql(context);
      return status ? printStatus(context) : apply(context);
    });
}

async function apply({ out, signal, globals }: Context): Promise<void> {
  const { connectionString, schema, source } = await requireTarget(globals());
  const { from, to } = await explained(source, () => migrate({ connectionString, schema, signal }));
  const change = from === to ? `is up to date at version ${to}` : `migrated from version ${from} to ${to}`;
  await out.data(`schema ${printable(schema)} ${change}`, { schema, from, to });
}

async function printSql({ out, globals }: Context): Promise<void> {
  const schema = schemaOf(globals());
  const sql = await explained('', async () => printMigrations(schema));
  await out.data(sql, { schema, sql });
}

async function printStatus({ out, signal, globals }: Context): Promise<void> {
  const target = await requireTarget(globals());
  const { schema } = target;
  const { installed, problem } = await explained(target.source, () =>
    waitOrAbort(schemaStatus(target), signal),
  );
  const version = installed === null ? 'is not installed' : `is at version ${installed}`;
  const judgement = problem === undefined ? ', as this package needs' : '';
  await out.data(`schema ${printable(schema)} ${version}${judgement}`, {
    schema,
    installed,
    ok: problem === undefined,
  });
  if (problem !== undefined) throw problem;
}
