// `sluice serve`: HTTP for a database whose schema is installed. Nothing is open by accident: without a way to tell who
// may read, it starts only if that is asked for in so many words.
import type { Command } from 'commander';
import {
  createHandler as createSluiceHandler,
  type Authorize,
  type MetricsReaders,
  type SluiceHandler,
} from '../../http.ts';
import { bearerOf } from '../bearer.ts';
import { withCleanup, type Cleanup } from '../cleanup.ts';
import { wrongUsage } from '../command-error.ts';
import type { Context } from '../context.ts';
import { stderrLogger } from '../stderr-logger.ts';
import { untilStopped } from '../stop.ts';
import { openSluice, requireTarget } from '../target.ts';
import { addressFrom, openWebServer } from '../web-server.ts';

interface ServeOptions {
  readonly allowAnonymous?: boolean | undefined;
  readonly readDatabaseUrl?: string | undefined;
  readonly metrics?: boolean | undefined;
}

export function addServe(program: Command, context: Context): void {
  program
    .command('serve')
    .description('serve the streams over HTTP (HOST and PORT say where: 127.0.0.1:4080)')
    .option('--allow-anonymous', 'let anyone who can reach it read every stream')
    .option('--read-database-url <url>', 'a hot standby to catch up from')
    .option('--metrics', 'serve /metrics to whoever sends SLUICE_METRICS_TOKEN as a bearer token')
    .action(async ({ allowAnonymous = false, readDatabaseUrl, metrics = false }: ServeOptions) => {
      if (!allowAnonymous) throw notOpen((process.env['SLUICE_SECRET'] ?? '') !== '');
      const readers = metrics && bearerOf(process.env['SLUICE_METRICS_TOKEN'] ?? '');
      await withCleanup((cleanup) => serve(context, cleanup, { readDatabaseUrl, metrics: readers }));
    });
}

const notOpen = (hasSecret: boolean): Error =>
  wrongUsage(
    hasSecret
      ? 'SLUICE_SECRET is set, but this version has no capability tokens yet: serve with --allow-anonymous, or mount createHandler from sluice/http with an authorize hook of your own'
      : 'nothing says who may read: SLUICE_SECRET is for capability tokens, which this version does not have yet; let anyone in with --allow-anonymous, or mount createHandler from sluice/http with an authorize hook of your own',
  );

interface Serve {
  readonly readDatabaseUrl: string | undefined;
  readonly metrics: MetricsReaders;
}

async function serve(
  context: Context,
  cleanup: Cleanup,
  { readDatabaseUrl: readConnectionString, metrics }: Serve,
): Promise<void> {
  const { out, signal, globals } = context;
  const address = addressFrom(process.env);
  const target = await requireTarget(globals());
  const logger = stderrLogger(context);
  const sluice = await openSluice(target, { logger, signal, readConnectionString });
  cleanup.add(() => sluice.close());
  const authorize: Authorize = async () => ({ principal: null });
  const createHandler = (): SluiceHandler => createSluiceHandler(sluice, { authorize, metrics });
  const server = await openWebServer({ address, createHandler, logger });
  cleanup.add(() => server.close());
  out.warn('anyone who can reach this server may read every stream (--allow-anonymous)');
  await out.data(server.url, { url: server.url, pid: process.pid, schema: target.schema });
  await untilStopped(signal);
  out.talk('stopping');
}
