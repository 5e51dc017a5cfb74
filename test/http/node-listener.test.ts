// Guards the bridge to node:http, to frameworks that mount like Express, and to HTTP/2: what arrives at a handler is
// what was sent, what it answers is what leaves, and nothing hangs, leaks or crashes when either side gives up.
import { once } from 'node:events';
import {
  request as ask,
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import {
  connect as dial,
  createServer as createHttp2Server,
  type ClientHttp2Session,
  type Http2Server,
} from 'node:http2';
import { connect as dialTcp, type AddressInfo, type Socket } from 'node:net';
import { connect, type Sluice } from 'sluice';
import { createHandler, type SluiceHandler } from 'sluice/http';
import { toNodeListener, type NodeListener } from 'sluice/node';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { deferred } from '../../src/util/deferred.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { anyone, serveHandler, type Serving } from '../support/serve.ts';
import { FrameReader, openSse } from '../support/sse.ts';

const db = useDatabase();
let sluice: Sluice;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString });
  await sluice.stream('mounted').appendMany([{ data: 1 }, { data: 2 }]);
  return () => sluice.close();
});

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const handlerOf = (respond: (...asked: Parameters<SluiceHandler>) => Promise<Response>): SluiceHandler =>
  Object.assign(respond, createHandler(sluice, { authorize: anyone }));
const serving = async (...of: Parameters<typeof handlerOf>): Promise<Serving> => {
  const served = await serveHandler(handlerOf(...of));
  cleanups.push(() => served[Symbol.asyncDispose]());
  return served;
};
const listening = async (server: Server | Http2Server): Promise<number> => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
};
const echo = async (request: Request): Promise<Response> => new Response(request.body);

describe('requests', () => {
  test('method, address, headers, remote address and scheme arrive', async () => {
    const seen: unknown[] = [];
    const { origin } = await serving(async (request, info) => {
      const { method, url, headers } = request;
      seen.push([method, url, headers.get('x-one'), headers.get('cookie'), info?.remoteAddress]);
      return new Response('');
    });
    await fetch(`${origin}/a%20b?c=%0A&c=d`, {
      method: 'PUT',
      headers: { 'x-one': '1', cookie: 'a=b; c=d' },
    });
    expect(seen).toEqual([['PUT', `${origin}/a%20b?c=%0A&c=d`, '1', 'a=b; c=d', '127.0.0.1']]);
  });

  test('a header sent twice arrives as both values', async () => {
    const served = await serving(async ({ headers }) => new Response(headers.get('x-two')));
    const answer = await served.raw(
      'GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-two: 1\r\nX-Two: 2\r\n\r\n',
    );
    expect(answer).toContain('\r\n1, 2\r\n');
  });

  test('over TLS the scheme is https', async () => {
    const listener = toNodeListener(handlerOf(async ({ url }) => new Response(url)));
    const server = createServer((request, response) => {
      listener(
        Object.assign(request, { socket: Object.assign(request.socket, { encrypted: true }) }),
        response,
      );
    });
    const port = await listening(server);
    cleanups.push(() => server.close());
    const response = await fetch(`http://127.0.0.1:${port}/x`);
    expect(await response.text()).toBe(`https://127.0.0.1:${port}/x`);
  });

  test.each(['POST', 'PUT', 'PATCH', 'DELETE'])(
    'a body sent with %s passes through, byte for byte',
    async (method) => {
      const { origin } = await serving(echo);
      const body = Uint8Array.from({ length: 3_000_000 }, (_, index) => (index * 7919) % 251);
      const response = await fetch(origin, { method, body });
      expect(Buffer.from(await response.arrayBuffer()).equals(body)).toBe(true);
    },
  );

  test('a body that a middleware has read before is empty, not an error', async () => {
    const listener = toNodeListener(handlerOf(async (request) => new Response(`<${await request.text()}>`)));
    const server = createServer((request, response) => {
      request.resume().once('end', () => listener(request, response));
    });
    const port = await listening(server);
    cleanups.push(() => server.close());
    const response = await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', body: 'gone' });
    expect(await response.text()).toBe('<>');
  });

  test('a body nobody reads does not keep the answer', async () => {
    const { origin } = await serving(async () => new Response('no', { status: 413 }));
    const response = await fetch(origin, { method: 'POST', body: 'x'.repeat(1_000_000) });
    expect([response.status, await response.text()]).toEqual([413, 'no']);
  });

  test('a client that leaves aborts the request and fails the reading of its body', async () => {
    const outcome = deferred<unknown>();
    const reading = deferred<Request>();
    const { port } = await serving(async (request) => {
      reading.resolve(request);
      outcome.resolve(await request.text().catch((error: unknown) => error));
      return new Response('');
    });
    const asked = ask({ port, host: '127.0.0.1', method: 'POST', headers: { 'content-length': 100 } });
    asked.on('error', () => {});
    asked.write('half');
    const request = await reading.promise;
    expect(request.signal.aborted).toBe(false);
    asked.destroy();
    expect(await outcome.promise).toBeInstanceOf(Error);
    await until(() => request.signal.aborted);
  });
});

describe('responses', () => {
  test('status, headers and each cookie leave', async () => {
    const { origin } = await serving(async () => {
      const response = new Response('made', { status: 201, headers: { 'x-own': 'a, b' } });
      response.headers.append('set-cookie', 'a=1; Expires=Wed, 21 Oct 2035 07:28:00 GMT');
      response.headers.append('set-cookie', 'b=2; HttpOnly');
      return response;
    });
    const { status, headers } = await fetch(origin);
    expect([status, headers.get('x-own')]).toEqual([201, 'a, b']);
    expect(headers.getSetCookie()).toEqual(['a=1; Expires=Wed, 21 Oct 2035 07:28:00 GMT', 'b=2; HttpOnly']);
  });

  test.each([204, 304])('%i has no body', async (status) => {
    const { origin } = await serving(async () => new Response(null, { status }));
    const response = await fetch(origin);
    expect([response.status, await response.text()]).toEqual([status, '']);
  });

  test('HEAD: the headers, and the body is given up', async () => {
    const cancelled = deferred();
    const { origin } = await serving(async () => {
      const body = new ReadableStream({ cancel: () => cancelled.resolve() }, { highWaterMark: 0 });
      return new Response(body, { headers: { etag: '"1"' } });
    });
    const response = await fetch(origin, { method: 'HEAD' });
    expect([response.status, response.headers.get('etag'), await response.text()]).toEqual([200, '"1"', '']);
    await cancelled.promise;
  });

  test('a client that leaves gives up the body', async () => {
    const cancelled = deferred();
    const { origin } = await serving(async () => {
      const body = new ReadableStream<Uint8Array>({
        pull: (controller) => controller.enqueue(new Uint8Array(65_536)),
        cancel: () => cancelled.resolve(),
      });
      return new Response(body);
    });
    const aborting = new AbortController();
    const { body } = await fetch(origin, { signal: aborting.signal });
    await body!.getReader().read();
    aborting.abort();
    await cancelled.promise;
  });

  test('a client that leaves before the answer gives up the body', async () => {
    const cancelled = deferred();
    const asked = deferred<AbortSignal>();
    const { origin } = await serving(async ({ signal }) => {
      asked.resolve(signal);
      await once(signal, 'abort');
      return new Response(new ReadableStream({ cancel: () => cancelled.resolve() }));
    });
    const aborting = new AbortController();
    const fetching = fetch(origin, { signal: aborting.signal });
    await asked.promise;
    aborting.abort();
    await expect(fetching).rejects.toThrow('abort');
    await cancelled.promise;
  });
});

test('I7: what a middleware has answered meanwhile, such as one for timeouts, stays its answer', async () => {
  const cancelled = deferred();
  const asked = deferred<ServerResponse>();
  const answered = deferred();
  const listener = toNodeListener(
    handlerOf(async () => {
      await answered.promise;
      return new Response(new ReadableStream({ cancel: () => cancelled.resolve() }));
    }),
  );
  const server = createServer((request, response) => {
    listener(request, response);
    asked.resolve(response);
  });
  const fetching = fetch(`http://127.0.0.1:${await listening(server)}`);
  cleanups.push(() => server.close());
  const response = await asked.promise;
  response.writeHead(503).write('too ');
  answered.resolve();
  await cancelled.promise;
  response.end('late');
  const got = await fetching;
  expect([got.status, await got.text()]).toEqual([503, 'too late']);
});

describe('requests sent on without waiting for answers', () => {
  const ask = (path: string): string => `GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`;
  const STREAM = '/v1/events?stream=mounted&after=start';
  const open = async (
    ...paths: string[]
  ): Promise<{ handler: SluiceHandler; socket: Socket; heard: () => string }> => {
    const handler = createHandler(sluice, { authorize: anyone });
    const server = createServer(toNodeListener(handler));
    const socket = dialTcp(await listening(server), '127.0.0.1');
    let heard = '';
    socket.setEncoding('utf8').on('data', (text) => (heard += String(text)));
    cleanups.push(async () => handler.close().then(() => server.close()));
    socket.write(paths.map(ask).join(''));
    return { handler, socket, heard: () => heard };
  };

  test('are answered one after another', async () => {
    const { heard, socket } = await open('/livez', '/v1/events', STREAM);
    await until(() => heard().includes('"offset":"2"'));
    expect(heard().match(/HTTP\/1.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 400', 'HTTP/1.1 200']);
    socket.destroy();
  });

  test('I7: behind an event stream, which has no end, nothing is opened that would stay', async () => {
    const { handler, heard, socket } = await open(STREAM, STREAM, '/livez', STREAM);
    await until(() => heard().includes('"offset":"2"'));
    expect(handler.stats().connections).toBe(1);
    socket.destroy();
    await until(() => handler.stats().connections === 0);
    expect(handler.stats().opened).toBe(1);
  });

  test('I7: a flood of them behind an event stream is cut off with it, and does not fill the memory', async () => {
    const { handler, heard, socket } = await open(STREAM);
    await until(() => heard().includes('"offset":"2"'));
    const closed = once(socket, 'close');
    socket.on('error', () => {}).write(ask('/livez').repeat(2000));
    await closed;
    await until(() => handler.stats().connections === 0);
    expect(handler.stats().opened).toBe(1);
  });

  test('a hundred behind each other are answered', async () => {
    const { heard, socket } = await open(...Array.from({ length: 100 }, () => '/livez'));
    await until(() => heard().match(/HTTP\/1.1 200/g)?.length === 100);
    socket.destroy();
  });
});

describe('errors', () => {
  const failing = async (): Promise<Response> => {
    throw new Error('secret');
  };

  test('without next: 500, which tells nothing, and the failure is reported', async () => {
    const { origin } = await serving(failing);
    const failed = nextMessage<{ where: string; error: Error }>('sluice:background.failed');
    const response = await fetch(origin);
    expect([response.status, await response.text()]).toEqual([500, '']);
    expect(await failed).toMatchObject({ where: 'node listener', error: { message: 'secret' } });
  });

  test('what cannot be written is a 500 too', async () => {
    const { origin } = await serving(async () => Response.error());
    expect((await fetch(origin)).status).toBe(500);
  });

  test('in the middle of a body: the connection is cut, and that is reported', async () => {
    const { origin } = await serving(async () => {
      let chunks = 0;
      const body = new ReadableStream<Uint8Array>({
        pull: (controller) => {
          if ((chunks += 1) > 3) throw new Error('secret');
          controller.enqueue(new Uint8Array(1000));
        },
      });
      return new Response(body);
    });
    const failed = nextMessage<{ error: Error }>('sluice:background.failed');
    await expect(fetch(origin).then((response) => response.text())).rejects.toThrow();
    expect((await failed).error.message).toBe('secret');
  });
});

describe('mounted like Express', () => {
  /** `url` is what is left below the mount point; `originalUrl` is the whole. */
  const mount = async (
    handler: SluiceHandler,
    at: string,
  ): Promise<{ origin: string; errors: unknown[] }> => {
    const listener = toNodeListener(handler);
    const errors: unknown[] = [];
    const server = createServer((request: IncomingMessage & { originalUrl?: string }, response) => {
      request.originalUrl = request.url ?? '';
      request.url = request.originalUrl.slice(at.length) || '/';
      listener(request, response, (error) => {
        errors.push(error);
        response.writeHead(502).end('handled elsewhere');
      });
    });
    const port = await listening(server);
    cleanups.push(async () => {
      await handler.close();
      server.closeAllConnections();
      server.close();
    });
    return { origin: `http://127.0.0.1:${port}`, errors };
  };

  test('basePath is the whole path to the mount point', async () => {
    const handler = createHandler(sluice, { authorize: anyone, basePath: '/api/events' });
    const { origin, errors } = await mount(handler, '/api/events');
    using client = await openSse(`${origin}/api/events/v1/events?stream=mounted&after=start`);
    await client.received(2);
    expect(client.offsets).toEqual([1, 2]);
    expect((await fetch(`${origin}/api/events/livez`)).status).toBe(200);
    expect((await fetch(`${origin}/api/events/other`)).status).toBe(404);
    expect(errors).toEqual([]);
  });

  test('I7: a client that left while an earlier middleware was at work opens nothing', async () => {
    let asked = 0;
    const listener = toNodeListener(handlerOf(async () => new Response(String((asked += 1)))));
    const atWork = deferred();
    const done = deferred();
    const server = createServer((request, response) => {
      atWork.resolve();
      void once(response, 'close').then(() => done.resolve(listener(request, response)));
    });
    const port = await listening(server);
    cleanups.push(() => server.close());
    const leaving = ask({ port, host: '127.0.0.1' }).on('error', () => {});
    leaving.end();
    await atWork.promise;
    leaving.destroy();
    await done.promise;
    expect(asked).toBe(0);
  });

  test('errors go to next, and are not answered twice', async () => {
    const error = new Error('secret');
    const { origin, errors } = await mount(
      handlerOf(() => Promise.reject(error)),
      '/x',
    );
    const response = await fetch(`${origin}/x/y`);
    expect([response.status, await response.text()]).toEqual([502, 'handled elsewhere']);
    expect(errors).toEqual([error]);
  });
});

describe('over HTTP/2', () => {
  const openTo = async (listener: NodeListener): Promise<ClientHttp2Session> => {
    // The compatibility API has the members of node:http that the bridge uses.
    const server = createHttp2Server((request, response) =>
      listener(request as unknown as IncomingMessage, response as unknown as ServerResponse),
    );
    const sockets = new Set<Socket>();
    server.on('connection', (socket: Socket) => sockets.add(socket));
    const session = dial(`http://127.0.0.1:${await listening(server)}`);
    cleanups.push(() => {
      session.destroy();
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    return session;
  };
  const open = async (handler: SluiceHandler): Promise<ClientHttp2Session> => {
    const session = await openTo(toNodeListener(handler));
    cleanups.push(() => handler.close());
    return session;
  };
  const streams = (): SluiceHandler => createHandler(sluice, { authorize: anyone });
  const read = async (
    session: ClientHttp2Session,
    headers: Record<string, string>,
    body?: Uint8Array,
  ): Promise<[number | undefined, Buffer, Record<string, unknown>]> => {
    const stream = session.request(headers, { endStream: body === undefined });
    if (body) stream.end(body);
    const [answer] = (await once(stream, 'response')) as [Record<string, unknown>];
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(chunk as Buffer);
    return [Number(answer[':status']), Buffer.concat(chunks), answer];
  };

  test('requests, answers and bodies', async () => {
    const session = await open(
      handlerOf(async (request) => {
        const { pathname, search, host } = new URL(request.url);
        const headers = { 'x-path': `${pathname}${search}`, 'x-host': host, 'x-method': request.method };
        return new Response(request.body, { headers });
      }),
    );
    const body = new Uint8Array(300_000).fill(65);
    const [status, echoed, headers] = await read(session, { ':path': '/a?b=c', ':method': 'POST' }, body);
    expect([status, echoed.equals(body)]).toEqual([200, true]);
    expect(headers).toMatchObject({ 'x-path': '/a?b=c', 'x-method': 'POST' });
    expect(headers['x-host']).toMatch(/^127\.0\.0\.1:\d+$/);
    const [, empty] = await read(session, { ':path': '/', ':method': 'HEAD' });
    expect(empty).toHaveLength(0);
  });

  test('event streams, several on one connection, freed one by one', async () => {
    const warnings: unknown[] = [];
    const onWarning = (warning: unknown): void => void warnings.push(warning);
    process.on('warning', onWarning);
    const session = await open(streams());
    const path = '/v1/events?stream=mounted&after=start';
    const opened = [1, 2, 3].map(() => {
      const stream = session.request({ ':path': path });
      const seen = new FrameReader();
      stream.on('data', (bytes: Buffer) => seen.feed(bytes));
      return { stream, seen };
    });
    await until(() => opened.every(({ seen }) => seen.messages.length >= 3));
    const [first, ...others] = opened;
    const closed = nextMessage<{ reason: string }>('sluice:sse.closed');
    first?.stream.close();
    expect((await closed).reason).toBe('client');
    const { offset } = await sluice.stream('mounted').append('live');
    await until(() =>
      others.every(({ seen }) => seen.messages.at(-1)?.data.includes(`"offset":"${offset}"`)),
    );
    expect(first?.seen.messages).toHaveLength(3);
    process.off('warning', onWarning);
    expect(warnings).toEqual([]);
  });

  test('I7: a stream that was closed while an earlier middleware was at work opens nothing', async () => {
    let asked = 0;
    const listener = toNodeListener(handlerOf(async () => new Response(String((asked += 1)))));
    const atWork = deferred();
    const done = deferred();
    const session = await openTo((request, response) => {
      atWork.resolve();
      void once(response, 'close').then(() => done.resolve(listener(request, response)));
    });
    const leaving = session.request({ ':path': '/' });
    await atWork.promise;
    leaving.close();
    await done.promise;
    expect(asked).toBe(0);
  });

  test('problems, and shutdown', async () => {
    const handler = streams();
    const session = await open(handler);
    const [status, problem] = await read(session, { ':path': '/v1/events?stream=nobody' });
    expect([status, JSON.parse(problem.toString())]).toMatchObject([404, { code: 'stream_not_found' }]);
    const reading = read(session, { ':path': '/v1/events?stream=mounted' });
    await nextMessage('sluice:sse.opened');
    await handler.close();
    const [, text] = await reading;
    expect(text.toString()).toContain('event: sluice:shutdown');
  });

  test('I7: a stream that is not read is dropped past its deadline, and the others on its connection go on', async () => {
    const limits = { heartbeatMs: 10, drainTimeoutMs: 30 };
    const session = await open(createHandler(sluice, { authorize: anyone, limits }));
    const data = 'x'.repeat(200_000);
    await sluice.stream('big').appendMany(Array.from({ length: 5 }, () => ({ data })));
    const dropped = nextMessage<{ reason: string }>('sluice:sse.closed', ({ reason }) => reason === 'slow');
    const stalled = session.request({ ':path': '/v1/events?stream=big&after=start' });
    stalled.on('error', () => {});
    await dropped;
    const other = session.request({ ':path': '/v1/events?stream=mounted&after=start' });
    const seen = new FrameReader();
    other.on('data', (bytes: Buffer) => seen.feed(bytes));
    await until(() => seen.messages.length >= 3);
    stalled.resume();
    await until(() => stalled.closed);
  });
});
