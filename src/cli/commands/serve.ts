// `sluice serve`: HTTP for a database whose schema is installed. What it does stands in ../serve.ts, which is loaded only when
// it is asked for: other commands need none of HTTP.
import type { Command } from 'commander';
import { withCleanup } from '../cleanup.ts';
import type { Context } from '../context.ts';
import { repeated } from '../repeated.ts';
import type { ServeOptions } from '../serve.ts';

export function addServe(program: Command, context: Context): void {
  program
    .command('serve')
    .description(
      'serve the streams over HTTP to holders of tokens made with SLUICE_SECRET (HOST and PORT say where: 127.0.0.1:4080)',
    )
    .option('--allow-anonymous', 'let anyone who can reach it read every stream')
    .option('--cors-origin <origin>', 'allow pages of this origin, * for all; may be repeated', repeated)
    .option('--trust-proxy <hops>', 'the number of proxies in front of it, for X-Forwarded-For')
    .option('--revocations <stream>', 'the stream whose events revoke tokens and principals')
    .option('--read-database-url <url>', 'a hot standby for catch-up reads')
    .option('--metrics', 'serve /metrics to whoever sends SLUICE_METRICS_TOKEN as a bearer token')
    .option(
      '--stats-history <duration>',
      'how long to keep delivery figures in the table stats_history: 7d (default: none are kept)',
    )
    .action(async (options: ServeOptions) => {
      const { serve } = await import('../serve.ts');
      await withCleanup((cleanup) => serve(context, cleanup, options));
    });
}
