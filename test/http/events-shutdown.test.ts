// Guards I11 over HTTP: on shutdown clients are told to come back and when, new ones are turned away, servers close and
// processes end by themselves. And the two health endpoints, with the database away and back.
import { execFile } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { connect, type Sluice } from 'sluice';
import { createHandler } from 'sluice/http';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { deferred } from '../../src/util/deferred.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { createProxy } from '../support/proxy.ts';
import { anyone, serve, serveHandler } from '../support/serve.ts';
import { openSse, ResumingSse, type SseClient } from '../support/sse.ts';
import { root } from '../support/tidy/files.ts';

const db = useDatabase();
let sluice: Sluice;
let name: string;
let names = 0;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString });
  return () => sluice.close();
});
beforeEach(async () => {
  name = `shutdown ${(names += 1)}`;
  await sluice.stream(name).appendMany([{ data: 1 }, { data: 2 }, { data: 3 }]);
});

const connected = async (url: string): Promise<SseClient> => {
  const client = await openSse(url);
  await client.until(({ frames }) => frames.length >= 3);
  return client;
};
/** The last two frames of a connection that was shut down. */
const expectGoodbye = ({ frames, over, lastEventId }: SseClient, id: string): number => {
  const [retry, shutdown] = frames.slice(-2);
  expect(retry).toEqual({ retry: expect.stringMatching(/^\d+$/) });
  expect(shutdown).toEqual({
    event: 'sluice:shutdown',
    data: JSON.stringify({ retryMs: Number(retry?.retry) }),
  });
  expect([over, lastEventId]).toEqual(['end', id]);
  return Number(retry?.retry);
};

describe('closing the handler', () => {
  test('I11, I9: tells all clients when to come back, each at a time of its own, and ends their connections', async () => {
    await using serving = await serve(sluice);
    const clients = await Promise.all(Array.from({ length: 8 }, () => connected(serving.url(name))));
    const { cursor } = await sluice.stream(name).read();
    await serving.handler.close();
    await Promise.all(clients.map((client) => client.ended()));
    const retries = clients.map((client) => expectGoodbye(client, cursor));
    for (const retry of retries) {
      expect(retry).toBeGreaterThanOrEqual(1600);
      expect(retry).toBeLessThanOrEqual(2400);
    }
    expect(new Set(retries).size).toBeGreaterThan(4);
  });

  test('refuses new connections with 503 and Retry-After, and says so in readyz; livez lives', async () => {
    await using serving = await serve(sluice);
    expect((await fetch(`${serving.origin}/readyz`)).status).toBe(200);
    await serving.handler.close();
    await serving.handler.close();
    const refused = await fetch(serving.url(name));
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1']);
    expect(refused.headers.get('content-type')).toBe('application/problem+json');
    const ready = await fetch(`${serving.origin}/readyz`);
    expect([ready.status, await ready.json()]).toEqual([
      503,
      { ok: false, database: true, listener: true, shuttingDown: true },
    ]);
    expect((await fetch(`${serving.origin}/livez`)).status).toBe(200);
  });

  test('a connection that is just being authorized is refused, not forgotten', async () => {
    const asked = deferred();
    const answer = deferred();
    await using serving = await serve(sluice, {
      authorize: async (request, ...rest) => {
        asked.resolve();
        await answer.promise;
        return anyone(request, ...rest);
      },
    });
    const fetching = fetch(serving.url(name));
    await asked.promise;
    await serving.handler.close();
    answer.resolve();
    const { status, headers } = await fetching;
    expect([status, headers.get('retry-after')]).toEqual([503, '1']);
  });

  test('a connection that is just being opened is refused, and not left open', async () => {
    await using serving = await serve(sluice);
    const holder = await db.pool.connect();
    await holder.query('begin; lock table sluice.streams');
    const fetching = fetch(serving.url(name));
    await until(async () => {
      const { rowCount } = await db.query(
        `select from pg_stat_activity where datname = current_database() and wait_event = 'relation'
         and query like '%streams%'`,
      );
      return rowCount === 1;
    });
    const closed = nextMessage<{ reason: string }>('sluice:sse.closed');
    await serving.handler.close();
    expect((await closed).reason).toBe('shutdown');
    await holder.query('rollback');
    holder.release();
    const { status, headers } = await fetching;
    expect([status, headers.get('retry-after')]).toEqual([503, '1']);
  });

  test('a response that nobody has read yet ends when it is read', async () => {
    const handler = createHandler(sluice, { authorize: anyone });
    const closed = nextMessage<{ reason: string }>('sluice:sse.closed');
    const { status, body } = await handler(new Request(`http://x/v1/events?stream=${name}`));
    await handler.close();
    expect((await closed).reason).toBe('shutdown');
    expect([status, await new Response(body).text()]).toEqual([200, '']);
  });

  test('I2, I11: a client goes over to the next process without losing an event', async () => {
    const first = await serve(sluice);
    using proxy = await createProxy({ targetPort: first.port });
    using client = new ResumingSse(first.url(name, 'after=start', proxy.port));
    await until(() => client.events.length === 3);
    const { port } = first;
    const gone = once(first.server, 'close');
    await first.handler.close();
    first.server.close();
    await gone;
    await sluice.stream(name).append(4);
    const next = await serveHandler(createHandler(sluice, { authorize: anyone }), port);
    await sluice.stream(name).append(5);
    await until(() => client.events.length >= 5);
    expect(client.events.map(({ data = '' }) => (JSON.parse(data) as { data: number }).data)).toEqual([
      1, 2, 3, 4, 5,
    ]);
    client.close();
    await next[Symbol.asyncDispose]();
  });
});

describe('then the server closes', () => {
  test.each(['first', 'last'])(
    'with connections that were live, when the handler is closed %s',
    async (when) => {
      const serving = await serve(sluice);
      const clients = await Promise.all([connected(serving.url(name)), connected(serving.url(name))]);
      if (when === 'first') await serving.handler.close();
      const closed = once(serving.server.close(), 'close');
      await serving.handler.close();
      await closed;
      await Promise.all(clients.map((client) => client.ended()));
      expect(clients.map(({ over }) => over)).toEqual(['end', 'end']);
    },
  );

  test('I7: with a client that does not read', async () => {
    const serving = await serve(sluice, { limits: { drainTimeoutMs: 100 } });
    const client = await connected(serving.url(name));
    client.pause();
    const data = 'x'.repeat(900_000);
    await sluice.stream(name).appendMany(Array.from({ length: 20 }, () => ({ data })));
    await until(() => serving.responses[0]?.socket?.writableNeedDrain === true);
    await serving.handler.close();
    serving.server.close();
    await once(serving.server, 'close');
    client.close();
  });
});

describe('closing Sluice', () => {
  test('I11: ends live connections with notice, and the handler refuses what comes later', async () => {
    const own = await connect({ connectionString: db.connectionString });
    await using serving = await serve(own);
    const clients = await Promise.all([
      connected(serving.url(name)),
      connected(serving.url(name, 'after=start')),
    ]);
    await clients[1]?.received(3);
    const { cursor } = await own.stream(name).read();
    await own.close();
    for (const client of clients) {
      await client.ended();
      expectGoodbye(client, cursor);
    }
    const refused = await fetch(serving.url(name));
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1']);
    expect((await fetch(`${serving.origin}/readyz`)).status).toBe(503);
  });

  test('while connections restart after a loss: they end as well, and that is no failure', async () => {
    const own = await connect({ connectionString: db.connectionString });
    await using serving = await serve(own);
    await Promise.all(Array.from({ length: 5 }, () => own.stream(name).info())); // opens connections to the database
    const failures: unknown[] = [];
    const onFailure = (message: unknown): void => void failures.push(message);
    subscribe('sluice:background.failed', onFailure);
    const opened = nextMessage('sluice:sse.opened');
    const opening = Promise.allSettled(
      Array.from({ length: 3 }, () => openSse(serving.url(name, 'after=99'))),
    );
    await opened;
    await own.close();
    const clients = (await opening).flatMap((client) =>
      client.status === 'fulfilled' ? [client.value] : [],
    );
    await Promise.all(clients.map((client) => client.ended()));
    for (const client of clients) expect(client.over).toBe('end');
    expect(clients.length).toBeGreaterThan(0);
    expect(failures).toEqual([]);
    unsubscribe('sluice:background.failed', onFailure);
  });
});

describe('health', () => {
  test('readyz: 503 while the database is away, 200 when it is back; livez throughout', async () => {
    const { hostname, port } = new URL(db.connectionString);
    using proxy = await createProxy({ targetHost: hostname, targetPort: Number(port) });
    const through = new URL(db.connectionString);
    through.host = `127.0.0.1:${proxy.port}`;
    const own = await connect({ connectionString: through.href });
    await using serving = await serve(own);
    const ask = async (path: string): Promise<[number, unknown]> => {
      const response = await fetch(`${serving.origin}${path}`);
      expect(response.headers.get('cache-control')).toBe('no-store');
      return [response.status, await response.json()];
    };
    const well = { ok: true, database: true, listener: true, shuttingDown: false };
    expect(await ask('/readyz')).toEqual([200, well]);
    proxy.refuse();
    proxy.cut();
    await until(async () => (await ask('/readyz'))[0] === 503);
    expect(await ask('/readyz')).toEqual([503, { ...well, ok: false, database: false, listener: false }]);
    expect(await ask('/livez')).toEqual([200, { ok: true }]);
    const refused = await fetch(serving.url(name));
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1']);
    expect(JSON.stringify(await refused.json())).not.toMatch(/ECONNREFUSED|127\.0\.0\.1/);
    await proxy.accept();
    await until(async () => (await ask('/readyz'))[0] === 200);
    using client = await openSse(serving.url(name, 'after=start'));
    await client.received(3);
    await own.close();
  });

  test('HEAD is answered without a body', async () => {
    await using serving = await serve(sluice);
    for (const path of ['/livez', '/readyz']) {
      const response = await fetch(`${serving.origin}${path}`, { method: 'HEAD' });
      expect([response.status, await response.text()]).toEqual([200, '']);
    }
  });
});

test('I11: a process that served a connection and closed everything exits by itself', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [`${root}test/support/serve-child.mjs`], {
    cwd: root,
    env: { ...process.env, DATABASE_URL: db.connectionString },
    timeout: 60_000,
  });
  expect(stdout).toContain('"data":{"served":true}');
  expect(stdout).toContain('event: sluice:shutdown');
});
