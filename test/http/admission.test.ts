// Guards the caps on connections: refused with what to do before anything is asked or read, and given back however a
// connection ends.
import { connect, type Sluice } from 'sluice';
import { createHandler, type Authorize, type HandlerLimits } from 'sluice/http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { deferred } from '../../src/util/deferred.ts';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { anyone, serve } from '../support/serve.ts';
import { openSse } from '../support/sse.ts';

const db = useDatabase();
let sluice: Sluice;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString });
  await sluice.createStream('known');
});
afterAll(() => sluice.close());

const refusal = async (url: string, headers: Record<string, string> = {}): Promise<unknown> => {
  const response = await fetch(url, { headers });
  const { detail } = (await response.json()) as { detail: string };
  return { status: response.status, retryAfter: response.headers.get('retry-after'), detail };
};

describe.each<[string, HandlerLimits, number, RegExp]>([
  ['the process', { maxConnections: 2 }, 503, /holds 2 connections/],
  ['an address', { maxConnectionsPerAddress: 2 }, 429, /your address holds 2/],
  ['a principal', { maxConnectionsPerPrincipal: 2 }, 429, /you hold 2/],
])('%s', (_, limits, status, detail) => {
  test('I7: takes so many, and another one when one of them has ended', async () => {
    let asked = 0;
    await using serving = await serve(sluice, {
      limits,
      authorize: async () => {
        asked += 1;
        return { principal: 'somebody' };
      },
    });
    const url = serving.url('known');
    const clients = [await openSse(url), await openSse(url)];
    expect(await refusal(url)).toEqual({ status, retryAfter: '5', detail: expect.stringMatching(detail) });
    if (!('maxConnectionsPerPrincipal' in limits)) expect(asked).toBe(2); // before any work was done
    const closed = nextMessage('sluice:sse.closed');
    clients[0]?.close();
    await closed;
    using third = await openSse(url);
    await third.opened();
    clients[1]?.close();
  });

  test('I7: what was refused or failed for another reason is given back', async () => {
    await using serving = await serve(sluice, {
      limits,
      authorize: async (request) => {
        const how = request.headers.get('x-how');
        if (how === 'refuse') return new Response(null, { status: 403 });
        if (how === 'throw') throw new Error('hook');
        const expiresAt = how === 'expired' ? new Date(0) : undefined;
        return { principal: 'somebody', expiresAt };
      },
    });
    for (const how of ['refuse', 'throw', 'expired', 'refuse', 'throw', 'expired']) {
      const response = await fetch(serving.url('known'), { headers: { 'x-how': how } });
      expect(response.status).toBeGreaterThanOrEqual(400);
      await response.body?.cancel();
    }
    for (const query of ['format=xml', 'after=nowhere']) {
      const response = await fetch(serving.url('known', query));
      expect(response.status).toBe(400);
      await response.body?.cancel();
    }
    for (let round = 0; round < 3; round += 1) expect((await fetch(serving.url('unknown'))).status).toBe(404);
    using one = await openSse(serving.url('known'));
    using two = await openSse(serving.url('known'));
    await Promise.all([one.opened(), two.opened()]);
  });
});

describe('I7: who leaves before the answer gives back what was taken', () => {
  const limits = { maxConnections: 1 };

  test('while the hook is asked, though it never answers', async () => {
    const asked = deferred();
    let first = true;
    const authorize: Authorize = async () => {
      if (!first) return { principal: null };
      first = false;
      asked.resolve();
      return new Promise<never>(() => {});
    };
    await using serving = await serve(sluice, { limits, authorize });
    const leaving = new AbortController();
    const response = fetch(serving.url('known'), { signal: leaving.signal });
    await asked.promise;
    leaving.abort();
    await expect(response).rejects.toThrow();
    await until(async () => {
      const next = await fetch(serving.url('known'));
      await next.body?.cancel();
      return next.status === 200;
    });
  });

  test('while the database is asked', async () => {
    const handler = createHandler(sluice, { limits, authorize: anyone });
    const ask = async (signal?: AbortSignal): Promise<Response> =>
      handler(new Request('http://host.example/v1/events?stream=known', signal ? { signal } : {}));
    await using holder = await openClient(db.connectionString);
    await holder.query('begin; lock table sluice.streams');
    const leaving = new AbortController();
    const first = ask(leaving.signal);
    const waiting = async (): Promise<boolean> =>
      (await db.query('select from pg_locks where not granted')).rows.length > 0;
    await until(waiting);
    const closed = nextMessage<{ reason: string }>('sluice:sse.closed');
    leaving.abort();
    expect([(await first).status, (await closed).reason]).toEqual([499, 'client']);
    const second = ask();
    await holder.query('rollback');
    const { status, body } = await second;
    await body?.cancel();
    expect(status).toBe(200);
    await handler.close();
  });
});

test('anybody is nobody in particular: no cap holds for all of them together', async () => {
  await using serving = await serve(sluice, { limits: { maxConnectionsPerPrincipal: 1 } });
  using one = await openSse(serving.url('known'));
  using two = await openSse(serving.url('known'));
  await Promise.all([one.opened(), two.opened()]);
});

test('I7: behind a proxy an address is that of the client, which cannot choose it', async () => {
  const limits = { maxConnectionsPerAddress: 1 };
  await using serving = await serve(sluice, { limits, trustProxy: 1 });
  const from = (forwarded: string): { headers: Record<string, string> } => ({
    headers: { 'x-forwarded-for': forwarded },
  });
  using one = await openSse(serving.url('known'), from('9.9.9.9, 1.2.3.4'));
  using two = await openSse(serving.url('known'), from('9.9.9.9, 1.2.3.5'));
  await Promise.all([one.opened(), two.opened()]);
  const forged = from('9.9.9.8, 1.2.3.4').headers;
  expect(await refusal(serving.url('known'), forged)).toMatchObject({ status: 429 });
  await using direct = await serve(sluice, { limits });
  using first = await openSse(direct.url('known'), from('1.2.3.4'));
  await first.opened();
  expect(await refusal(direct.url('known'), from('1.2.3.5').headers)).toMatchObject({ status: 429 });
});

test('I7: of IPv6 an address is its /64, in which one host can take any', async () => {
  await using serving = await serve(sluice, { limits: { maxConnectionsPerAddress: 1 }, trustProxy: 1 });
  const from = (forwarded: string): { headers: Record<string, string> } => ({
    headers: { 'x-forwarded-for': forwarded },
  });
  using one = await openSse(serving.url('known'), from('2001:db8:0:1::1'));
  using two = await openSse(serving.url('known'), from('2001:db8:0:2::1'));
  await until(() => one.lastEventId !== '' && two.lastEventId !== '');
  const neighbour = from('2001:db8:0:1:ffff::2').headers;
  expect(await refusal(serving.url('known'), neighbour)).toMatchObject({ status: 429 });
});

test('a connection that has lived long enough is told to come back, and resumes', async () => {
  await using serving = await serve(sluice, {
    limits: { maxConnectionMs: 2000, heartbeatMs: 20, retryMs: 10 },
  });
  const closed = nextMessage<{ reason: string }>('sluice:sse.closed');
  using client = await openSse(serving.url('known'));
  await client.ended();
  expect((await closed).reason).toBe('lifetime');
  expect(client.control('shutdown')).toEqual([{ retryMs: expect.any(Number) }]);
  expect(client.over).toBe('end');
  expect(client.lastEventId).not.toBe('');
});

test.each([
  { maxConnections: 0 },
  { maxConnectionsPerAddress: 1.5 },
  { maxConnectionsPerPrincipal: -1 },
  { maxStreams: 21 },
  { maxConnectionMs: 0 },
])('%j is refused', async (limits) => {
  await expect(serve(sluice, { limits })).rejects.toThrow(RangeError);
});
