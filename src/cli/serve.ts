// What `sluice serve` does. Nothing is open by accident: without a secret to check tokens with, it starts only if that is
// asked for in so many words.
import {
  createHandler as createSluiceHandler,
  type Authorize,
  type HandlerOptions,
  type MetricsReaders,
  type SluiceHandler,
} from '../http.ts';
import type { Sluice } from '../index.ts';
import { messageOf } from '../util/errors.ts';
import { parseCount, parseDuration } from './amounts.ts';
import { bearerOf } from './bearer.ts';
import type { Cleanup } from './cleanup.ts';
import { wrongUsage } from './command-error.ts';
import type { Context } from './context.ts';
import { tokensFrom } from './secret.ts';
import { stderrLogger } from './stderr-logger.ts';
import { untilStopped } from './stop.ts';
import { openSluice, requireTarget } from './target.ts';
import { addressFrom, openWebServer } from './web-server.ts';

export interface ServeOptions {
  readonly allowAnonymous?: boolean | undefined;
  readonly corsOrigin?: readonly string[] | undefined;
  readonly trustProxy?: string | undefined;
  readonly revocations?: string | undefined;
  readonly readDatabaseUrl?: string | undefined;
  readonly metrics?: boolean | undefined;
  readonly statsHistory?: string | undefined;
}

/** Serves until it is stopped; closes what it has opened by `cleanup`. @throws CommandError */
export async function serve(context: Context, cleanup: Cleanup, options: ServeOptions): Promise<void> {
  const { out, signal, globals } = context;
  const { allowAnonymous, readDatabaseUrl: readConnectionString } = options;
  const handlerOptions = handlerOptionsOf(options);
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

function makeHandler(sluice: Sluice, options: HandlerOptions): SluiceHandler {
  try {
    return createSluiceHandler(sluice, options);
  } catch (error) {
    throw error instanceof RangeError ? wrongUsage(messageOf(error)) : error;
  }
}
