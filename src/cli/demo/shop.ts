// The demo shop of `sluice dev --demo`: its routes, and what each answers. The page and its files, four ways to place
// orders, and what is committed so far. It must never be mounted beyond loopback: it lets anyone write, and trusts its
// caller to have checked Host and Origin.

import type { Pool } from 'pg';
import { readCount, readOrder } from './body.ts';
import { runBurst } from './burst.ts';
import { countOrders, createOrdersTable, placeOrders, type ShopStream } from './orders.ts';
import { pageFile } from './page-files.ts';
import { Problem, problemResponse, securityHeaders } from './problem.ts';

/** The part of Sluice the shop uses. */
export interface ShopSluice {
  stream(name: string): ShopStream;
  createStream(name: string): Promise<unknown>;
}

export interface ShopOptions {
  readonly sluice: ShopSluice;
  /** A pool on the database Sluice lives in. A burst takes up to four of its connections. */
  readonly pool: Pool;
  /** Default `demo-orders`. */
  readonly streamName?: string | undefined;
  /** How long an order for later waits, in milliseconds. Default 5 000. */
  readonly laterMs?: number | undefined;
  /** Hears of failures; silent by default. */
  readonly logger?: { error(fields: object, message: string): void } | undefined;
}

export interface Shop {
  /** Creates the table `sluice_demo.orders` and the stream if they are missing. */
  prepare(): Promise<void>;
  /** Answers a request, or null when its path is not the demo's. */
  handle(request: Request): Promise<Response | null>;
}

type Handler = (request: Request) => Promise<Response>;

/** How many past events the page shows when it opens. */
const shownAtFirst = 8n;
/** More bursts than this at once are refused: each may hold four connections of the pool. */
const maxBursts = 4;

/**
 * Creates the shop; does no I/O until `prepare`.
 *
 * @example
 * const shop = createShop({ sluice, pool });
 * await shop.prepare();
 * const response = await shop.handle(new Request('http://127.0.0.1:4080/demo/state'));
 */
export function createShop(options: ShopOptions): Shop {
  const { sluice, pool, streamName = 'demo-orders', laterMs = 5_000 } = options;
  const stream = sluice.stream(streamName);
  const routes = createRoutes({ pool, stream, streamName, laterMs });

  return {
    async prepare(): Promise<void> {
      await createOrdersTable(pool);
      if (await stream.info()) return;
      try {
        await sluice.createStream(streamName);
      } catch (error) {
        // Another process was quicker.
        if ((error as { code?: unknown }).code !== 'stream_exists') throw error;
      }
    },

    async handle(request): Promise<Response | null> {
      const { pathname } = new URL(request.url);
      if (pathname !== '/' && !pathname.startsWith('/demo/')) return null;
      try {
        return await answer(request, pathname, routes);
      } catch (error) {
        if (error instanceof Problem) return problemResponse(error);
        options.logger?.error({ err: error, method: request.method, path: pathname }, 'The demo shop failed');
        return problemResponse(unavailable());
      }
    },
  };
}

interface Parts {
  readonly pool: Pool;
  readonly stream: ShopStream;
  readonly streamName: string;
  readonly laterMs: number;
}

function createRoutes({ pool, stream, streamName, laterMs }: Parts): ReadonlyMap<string, Handler> {
  let bursts = 0;

  const place: Handler = async (request) => {
    const [id] = await placeOrders(pool, stream, [await readOrder(request)], { ending: 'commit' });
    return json(201, { id });
  };

  const placeForLater: Handler = async (request) => {
    const placing = { ending: 'commit', delayMs: laterMs } as const;
    const [id] = await placeOrders(pool, stream, [await readOrder(request)], placing);
    return json(201, { id, delayMs: laterMs });
  };

  const rollBack: Handler = async (request) => {
    await placeOrders(pool, stream, [await readOrder(request)], { ending: 'rollback' });
    return json(200, { rolledBack: true });
  };

  const burst: Handler = async (request) => {
    const count = await readCount(request);
    if (bursts >= maxBursts) {
      const detail = `${bursts} bursts are running, the most at once; send this one when they are done.`;
      throw new Problem(429, 'Too many bursts', detail, { 'retry-after': '1' });
    }
    bursts++;
    try {
      return json(200, await runBurst(pool, stream, count));
    } finally {
      bursts--;
    }
  };

  const state: Handler = async () => {
    const [{ orders, later }, info] = await Promise.all([countOrders(pool), stream.info()]);
    const { head, oldest } = info ?? { head: 0n, oldest: 1n };
    const before = oldest - 1n;
    const hint = head - shownAtFirst > before ? head - shownAtFirst : before;
    return json(200, {
      stream: streamName,
      orders,
      later,
      head: String(head),
      oldest: String(oldest),
      cursorHint: String(hint),
    });
  };

  return new Map([
    ['POST /demo/orders', place],
    ['POST /demo/later', placeForLater],
    ['POST /demo/rollback', rollBack],
    ['POST /demo/burst', burst],
    ['GET /demo/state', state],
  ]);
}

async function answer(
  request: Request,
  pathname: string,
  routes: ReadonlyMap<string, Handler>,
): Promise<Response> {
  const method = request.method === 'HEAD' ? 'GET' : request.method;
  const handler = routes.get(`${method} ${pathname}`);
  if (handler) return withoutBody(request, await handler(request));
  if (routes.has(`POST ${pathname}`)) throw notAllowed(request, 'POST');
  if (routes.has(`GET ${pathname}`)) throw notAllowed(request, 'GET, HEAD');

  const file = await pageFile(pathname);
  if (!file) throw new Problem(404, 'Not found', `The demo has nothing at ${pathname}; its page is at /.`);
  if (method !== 'GET') throw notAllowed(request, 'GET, HEAD');
  return withoutBody(request, file);
}

function withoutBody(request: Request, response: Response): Response {
  return request.method === 'HEAD' ? new Response(null, response) : response;
}

function notAllowed(request: Request, allow: string): Problem {
  return new Problem(405, 'Method not allowed', `${request.method} is not answered here; use ${allow}.`, {
    allow,
  });
}

/** Says neither that the order was kept nor that it was not: a commit whose answer was lost may have happened. */
function unavailable(): Problem {
  const detail =
    'The database did not confirm; what was committed will appear in the stream. Try again in a moment.';
  return new Problem(503, 'Unavailable', detail, { 'retry-after': '1' });
}

function json(status: number, body: unknown): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: { ...securityHeaders, 'content-type': 'application/json' },
  });
}
