// `sluice serve`: HTTP for a database whose schema is installed. Nothing is open by accident: without a secret to check
// tokens with, it starts only if that is asked for in so many words.
import type { Command } from 'commander';
import {
  createHandler as createSluiceHandler,
  type Authorize,
  type HandlerOptions,
  type MetricsReaders,
  type SluiceHandler,
} from '../../http.ts';
import type { Sluice } from '../../index.ts';
import { messageOf } from '../../util/errors.ts';
import { parseCount, parseDuration } from '../amounts.ts';
import { bearerOf } from '../bearer.ts';
import { withCleanup, type Cleanup } from '../cleanup.ts';
import { wrongUsage } from '../command-error.ts';
import type { Context } from '../context.ts';
import { repeated } from '../repeated.ts';
import { tokensFrom } from '../secret.ts';
import { stderrLogger } from '../stderr-logger.ts';
import { untilStopped } from '../stop.ts';
import { openSluice, requireTarget } from '../target.ts';
import { addressFrom, openWebServer } from '../web-server.ts';

interface ServeOptions {
  readonly allowAnonymous?: boolean | undefined;
  readonly corsOrigin?: readonly string[] | undefined;
  readonly trustProxy?: string | undefined;
  readonly revocations?: string | undefined;
  readonly readDatabaseUrl?: string | undefined;
  readonly metrics?: boolean | undefined;
  readonly statsHistory?: string | undefined;
}

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
      const handlerOptions = handlerOptionsOf(options);
      await withCleanup((cleanup) => serve(context, cleanup, { ...options, handlerOptions }));
    });
}

/** @throws CommandError */
function handlerOptionsOf(options: ServeOptions): HandlerOptions {
  const { corsOrigin: origins, trustProxy, revocations, statsHistory: keep } = options;
  return {
    authorize: authorizeOf(options),
    cors: origins && { origins },
    trustProxy: trustProxy === undefined ? undefined : parseCount('--trust-proxy', trustProxy),
    revocations,
    metrics: metricsReaders(options),
    statsHistory: keep === undefined ? undefined : { keepMs: parseDuration('--stats-history', keep) },
  };
}

/** @throws CommandError */
const metricsReaders = ({ metrics = false }: ServeOptions): MetricsReaders =>
  metrics && bearerOf(process.env['SLUICE_METRICS_TOKEN'] ?? '');

function authorizeOf({ allowAnonymous = false }: ServeOptions): Authorize {
  if (allowAnonymous) return async () => ({ principal: null });
  const tokens = tokensFrom(process.env);
  if (tokens) return tokens.authorize;
  throw wrongUsage(
    'nothing says who may read: set SLUICE_SECRET, which tokens are checked with (`openssl rand -base64 32` makes one, `sluice token` makes tokens), or let anyone in with --allow-anonymous',
  );
}

interface Serving extends ServeOptions {
  readonly handlerOptions: HandlerOptions;
}

async function serve(context: Context, cleanup: Cleanup, serving: Serving): Promise<void> {
  const { out, signal, globals } = context;
  const { allowAnonymous, handlerOptions, readDatabaseUrl: readConnectionString } = serving;
  const address = addressFrom(process.env);
  const target = await requireTarget(globals());
  const logger = stderrLogger(context);
  const sluice = await openSluice(target, { logger, signal, readConnectionString });
  cleanup.add(() => sluice.close());
  const handler = makeHandler(sluice, handlerOptions);
  const server = await openWebServer({ address, createHandler: () => handler, logger });
  cleanup.add(() => server.close());
  if (allowAnonymous) {
    const unused = process.env['SLUICE_SECRET'] ? '; SLUICE_SECRET is not asked for' : '';
    out.warn(`anyone who can reach this server may read every stream (--allow-anonymous${unused})`);
  }
  await out.data(server.url, { url: server.url, pid: process.pid, schema: target.schema });
  await untilStopped(signal);
  out.talk('stopping');
}

function makeHandler(sluice: Sluice, options: HandlerOptions): SluiceHandler {
  try {
    return createSluiceHandler(sluice, options);
  } catch (error) {
    throw error instanceof RangeError ? wrongUsage(messageOf(error)) : error;
  }
}
