// `sluice dev`: everything on one machine, for development. What it does stands in ../dev.ts, which is loaded only when it is
// asked for: other commands need none of HTTP.
import type { Command } from 'commander';
import { withCleanup } from '../cleanup.ts';
import type { Context } from '../context.ts';

interface DevOptions {
  readonly demo?: boolean | undefined;
}

export function addDev(program: Command, context: Context): void {
  program
    .command('dev')
    .description(
      'run everything here, on an embedded Postgres if none is named (HOST and PORT say where: 127.0.0.1:4080)',
    )
    .option('--demo', 'with a small shop to try it out')
    .action(async ({ demo = false }: DevOptions) => {
      const { dev } = await import('../dev.ts');
      await withCleanup((cleanup) => dev(context, cleanup, demo));
    });
}
