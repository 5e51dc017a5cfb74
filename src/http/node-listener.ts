// The bridge to node:http, Express, Fastify, Koa and HTTP/2: an IncomingMessage becomes a Request, a Response is
// written out. Event streams of ours skip the web stream and write their shared buffers straight to the socket.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { report } from '../util/diagnostics.ts';
import { sessionOf } from './events.ts';
import type { RequestHandler } from './handler.ts';
import { NodeTransport } from './node-transport.ts';
import { badRequest } from './problem.ts';

export type NodeListener = (
  request: IncomingMessage,
  response: ServerResponse,
  next?: (error?: unknown) => void,
) => void;

/**
 * Mounts a handler in Node. With `next` (Express and its like), errors go there; without, they answer 500.
 *
 * @example
 * createServer(toNodeListener(handler)).listen(4080);
 */
export function toNodeListener(handler: RequestHandler): NodeListener {
  return (incoming, outgoing, next) => void serveOrFail(handler, incoming, outgoing, next);
}

async function serveOrFail(
  handler: RequestHandler,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  next: ((error?: unknown) => void) | undefined,
): Promise<void> {
  try {
    await serve(handler, incoming, outgoing);
  } catch (error) {
    if (hasLeft(error)) return void outgoing.destroy();
    if (next && !outgoing.headersSent) return next(error);
    if (outgoing.headersSent) outgoing.destroy();
    else outgoing.writeHead(500).end();
    report('sluice:background.failed', () => ({ where: 'node listener', error }));
  }
}

// The client went away in the middle of its answer: nothing of ours failed.
const hasLeft = (error: unknown): boolean =>
  error instanceof Error &&
  (error.name === 'AbortError' || ('code' in error && error.code === 'ERR_STREAM_PREMATURE_CLOSE'));

async function serve(
  handler: RequestHandler,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  // Left while a middleware before this one was at work: 'close' has been, and would not come again.
  if (outgoing.destroyed || incoming.socket.destroyed) return;
  if (outgoing.socket === null && !(await turn(incoming.socket, outgoing))) return;
  const gone = new AbortController();
  const leave = (): void => gone.abort();
  outgoing.on('close', leave);
  const request = toRequest(incoming, gone.signal);
  const response =
    request instanceof Response
      ? request
      : await handler(request, { remoteAddress: incoming.socket.remoteAddress });
  // Left while the handler was at work, or answered by somebody else, such as a middleware that keeps a deadline.
  if (gone.signal.aborted || outgoing.headersSent) return response.body?.cancel();
  const session = sessionOf(response);
  const headers = headersOf(response);
  // So that a server that closes need not wait for idle connections; HTTP/2 has no such header.
  if (session && incoming.httpVersionMajor === 1) headers['connection'] = 'close';
  outgoing.writeHead(response.status, headers);
  if (session) {
    outgoing.off('close', leave); // from here on the transport is told; a connection that lives for hours keeps no request
    outgoing.flushHeaders();
    incoming.socket.setKeepAlive(true, 10_000); // notices a peer that is gone while nothing is in flight
    incoming.socket.setNoDelay(true);
    incoming.resume(); // a body, which nobody asked for, would stand before the client's leaving
    return session.start((events) => new NodeTransport(outgoing, events));
  }
  if (!response.body || incoming.method === 'HEAD') {
    outgoing.end();
    return response.body?.cancel();
  }
  return pipeline(Readable.fromWeb(response.body), outgoing);
}

/** Requests that may wait on one connection for an answer to those before them: some 3 kB of memory each. */
const MAX_WAITING = 100;
const waiting = new WeakMap<Socket, number>();

/**
 * A request that was sent on behind another one has no socket to be answered on until that one is done, and is told of no
 * 'close' either: what was opened for it would stay. If its turn never comes, nobody holds on to what waits here, but the
 * connection; and Node reads on while no answer piles up, so there is a bound. False: past that the connection is cut.
 */
async function turn(socket: Socket, outgoing: ServerResponse): Promise<boolean> {
  const before = waiting.get(socket) ?? 0;
  if (before >= MAX_WAITING) {
    socket.destroy();
    return false;
  }
  waiting.set(socket, before + 1);
  await new Promise((resolve) => outgoing.once('socket', resolve));
  waiting.set(socket, (waiting.get(socket) ?? 1) - 1);
  return true;
}

function toRequest(incoming: IncomingMessage, signal: AbortSignal): Request | Response {
  const { method = 'GET' } = incoming;
  const headers = toHeaders(incoming);
  const scheme = 'encrypted' in incoming.socket && incoming.socket.encrypted === true ? 'https' : 'http';
  const host = String(headers.get('host') ?? incoming.headers[':authority'] ?? 'localhost');
  // Under Express and its like `url` is what is left below the mount point; the handler's basePath is the whole path.
  const target = 'originalUrl' in incoming ? String(incoming.originalUrl) : (incoming.url ?? '/');
  const url = urlOf(scheme, host, target);
  if (url === undefined) return unreadable();
  // A body that a middleware has read before (express.json and its like) is not there any more.
  const body =
    method === 'GET' || method === 'HEAD' || Readable.isDisturbed(incoming)
      ? {}
      : { body: bodyOf(incoming), duplex: 'half' as const };
  try {
    return new Request(url, { method, headers, signal, ...body });
  } catch {
    return unreadable();
  }
}

/** Takes nothing before it is read: a body that nobody wants Node discards, and goes on with the request behind it. */
function bodyOf(incoming: IncomingMessage): ReadableStream<Uint8Array> {
  let chunks: AsyncIterator<Uint8Array, unknown> | undefined;
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        chunks ??= (incoming as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
        const next = await chunks.next();
        if (next.done === true) controller.close();
        else controller.enqueue(next.value);
      },
      cancel: () => void (chunks ? discard(chunks).catch(() => {}) : incoming.resume()),
    },
    { highWaterMark: 0 },
  );
}

async function discard(chunks: AsyncIterator<unknown>): Promise<void> {
  while ((await chunks.next()).done !== true);
}

const unreadable = (): Response => badRequest('the request line or the Host header cannot be read');

// A host with one of these would move the path: `Host: x/v1/events?stream=secret#` on a harmless request line.
const HOST = /^[^\s/?#@\\]+$/;

function urlOf(scheme: string, host: string, target: string): string | undefined {
  if (/^https?:/i.test(target)) return target; // absolute form; the Host header does not count (RFC 9112, 3.2.2)
  return target.startsWith('/') && HOST.test(host) ? `${scheme}://${host}${target}` : undefined;
}

function toHeaders({ rawHeaders }: IncomingMessage): Headers {
  const headers = new Headers();
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] ?? '';
    if (!name.startsWith(':')) headers.append(name, rawHeaders[index + 1] ?? ''); // HTTP/2 pseudo-headers are not headers
  }
  return headers;
}

function headersOf(response: Response): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = Object.fromEntries(response.headers);
  const cookies = response.headers.getSetCookie();
  return cookies.length > 0 ? { ...headers, 'set-cookie': cookies } : headers;
}
