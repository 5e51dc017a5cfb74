// Guards the routes of the demo shop: what they write, what they publish in the same transaction, and what they refuse.
// The page and its behaviour in a browser are judged in test/browser/demo.test.ts.
import * as fc from 'fast-check';
import { Pool } from 'pg';
import { connect, type Sluice } from 'sluice';
import { beforeAll, describe, expect, test } from 'vitest';
import { planBurst } from '../../src/cli/demo/burst.ts';
import { placeOrders } from '../../src/cli/demo/orders.ts';
import { createShop, type Shop, type ShopSluice } from '../../src/cli/demo/shop.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';

const db = useDatabase();
const origin = 'http://127.0.0.1:4080';
const order = { item: 'Fountain pen', quantity: 2 };

let sluice: Sluice;
let pool: Pool;
let shop: Shop;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString });
  pool = new Pool({ connectionString: db.connectionString, max: 10 });
  shop = createShop({ sluice, pool, laterMs: 200 });
  await shop.prepare();
  return async () => {
    await pool.end();
    await sluice.close();
  };
});

const handle = async (request: Request, by: Shop = shop): Promise<Response> => {
  const response = await by.handle(request);
  if (response === null) throw new Error(`${request.url} is not the demo's`);
  return response;
};
const get = (path: string, method = 'GET'): Promise<Response> =>
  handle(new Request(`${origin}${path}`, { method }));
const send = (path: string, body: string | Uint8Array, type = 'application/json'): Request =>
  new Request(`${origin}${path}`, { method: 'POST', headers: { 'content-type': type }, body });
const post = async (path: string, body: unknown, by?: Shop): Promise<{ status: number; body: unknown }> => {
  const response = await handle(send(path, JSON.stringify(body)), by);
  return { status: response.status, body: await response.json() };
};

interface State {
  stream: string;
  orders: number;
  later: number;
  head: string;
  oldest: string;
  cursorHint: string;
}
const state = async (): Promise<State> => (await (await get('/demo/state')).json()) as State;
/** Everything in the stream once it holds as many events as there are orders. */
const settled = async (): Promise<{ offset: bigint; type: string | null; data: unknown }[]> => {
  await until(async () => {
    const { orders, later, head } = await state();
    return later === 0 && BigInt(orders) === BigInt(head);
  });
  const stream = sluice.stream('demo-orders');
  const all = [];
  for (let after = 0n; ;) {
    const { events, upToDate } = await stream.read({ after });
    all.push(...events);
    after = events.at(-1)?.offset ?? after;
    if (upToDate) return all;
  }
};

describe('prepare', () => {
  test('may run again, and in several processes at once', async () => {
    await Promise.all([shop.prepare(), createShop({ sluice, pool }).prepare(), shop.prepare()]);
    const fresh = { streamName: 'another-shop', sluice, pool };
    await Promise.all([createShop(fresh).prepare(), createShop(fresh).prepare()]);
    expect(await sluice.stream('another-shop').info()).toMatchObject({ head: 0n, oldest: 1n });
  });
});

describe('orders', () => {
  test('I3: a committed order is a row and an event', async () => {
    const placed = await post('/demo/orders', order);
    expect(placed).toEqual({ status: 201, body: { id: expect.any(Number) } });
    const { id } = placed.body as { id: number };
    const { rows } = await db.query('select item, quantity from sluice_demo.orders where id = $1', [id]);
    expect(rows).toEqual([order]);
    expect((await settled()).at(-1)).toMatchObject({ type: 'order.placed', data: { id, ...order } });
  });

  test('I3: a rolled-back order is neither', async () => {
    const before = await settled();
    expect(await post('/demo/rollback', order)).toEqual({ status: 200, body: { rolledBack: true } });
    const { body } = await post('/demo/orders', order);
    const after = await settled();
    expect(after).toHaveLength(before.length + 1);
    expect(after.at(-1)).toMatchObject({ offset: BigInt(after.length), data: body });
  });

  test('I1, I3: a burst leaves exactly its committed orders, each once, at dense offsets', async () => {
    const before = await state();
    const { status, body } = await post('/demo/burst', { count: 300 });
    const { committed, rolledBack } = body as { committed: number; rolledBack: number };
    expect(status).toBe(200);
    expect(committed + rolledBack).toBe(300);
    expect(rolledBack).toBeGreaterThan(0);
    const events = await settled();
    expect(events).toHaveLength(before.orders + committed);
    expect(events.map(({ offset }) => offset)).toEqual(events.map((_, index) => BigInt(index + 1)));
    const { rows } = await db.query<{ id: number }>('select id from sluice_demo.orders order by id');
    const published = events.map(({ data }) => (data as { id: number }).id);
    expect(published.sort((a, b) => a - b)).toEqual(rows.map(({ id }) => id));
  });

  test('I7: more than four bursts at once are refused', async () => {
    const bursts = Array.from({ length: 6 }, () => handle(send('/demo/burst', '{"count":100}')));
    const answers = await Promise.all(bursts);
    expect(answers.map(({ status }) => status).sort((a, b) => a - b)).toEqual([200, 200, 200, 200, 429, 429]);
    expect(answers.find(({ status }) => status === 429)?.headers.get('retry-after')).toBe('1');
    expect((await post('/demo/burst', { count: 1 })).body).toEqual({ committed: 1, rolledBack: 0 });
  });

  test('the plan of a burst adds up, commits something and, from three transactions on, not everything', () => {
    const chance = fc.infiniteStream(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }));
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1_000 }), chance, (count, chances) => {
        const plan = planBurst(count, () => chances.next().value!);
        expect(plan.reduce((sum, { size }) => sum + size, 0)).toBe(count);
        expect(plan.every(({ size }) => size >= 1)).toBe(true);
        expect(plan[0]?.ending).toBe('commit');
        if (plan.length > 2) expect(plan.at(-1)?.ending).toBe('rollback');
      }),
    );
  });
});

describe('orders for later', () => {
  const hour = 3_600_000;
  /** How often the event of order `id` is in the stream, and whether it came before the time of its row. */
  const arrivals = async (id: number): Promise<unknown[]> => {
    const { rows } = await db.query(
      `select e.at < o.placed_at as early from sluice_demo.orders o
       join sluice.events e on (e.data ->> 'id')::integer = o.id where o.id = $1`,
      [id],
    );
    return rows;
  };

  test('I3: the event comes by itself, once, at the next offset, not before its time and not before it is counted', async () => {
    await post('/demo/orders', order); // so that somebody is awake who might deliver too early
    const before = await settled();
    const placed = await post('/demo/later', order);
    expect(placed).toEqual({ status: 201, body: { id: expect.any(Number), delayMs: 200 } });
    const { id } = placed.body as { id: number };
    await until(async () => {
      const { head } = await state();
      const { orders } = await state();
      // The page would take what is delivered and never counted for a loss of something else.
      expect(orders).toBeGreaterThanOrEqual(Number(head));
      return Number(head) === before.length + 1;
    });
    expect((await settled()).slice(before.length)).toEqual([
      expect.objectContaining({
        offset: BigInt(before.length + 1),
        type: 'order.placed',
        data: { id, ...order },
      }),
    ]);
    expect(await arrivals(id)).toEqual([{ early: false }]);
  });

  test('I3: while it waits, the row is committed and told apart, and others pass', async () => {
    const before = await settled();
    const patient = createShop({ sluice, pool, laterMs: hour });
    const { id } = (await post('/demo/later', order, patient)).body as { id: number };
    expect(await state()).toMatchObject({ orders: before.length, later: 1, head: String(before.length) });
    await post('/demo/orders', { item: 'Beeswax candle', quantity: 1 });
    await until(async () => (await state()).head === String(before.length + 1));
    expect(await state()).toMatchObject({ orders: before.length + 1, later: 1 });
    expect(await arrivals(id)).toEqual([]);
    // Its time comes.
    await db.query('update sluice_demo.orders set placed_at = clock_timestamp() where id = $1', [id]);
    await db.query('update sluice.delayed set due_at = clock_timestamp()');
    await post('/demo/orders', order);
    const events = await settled();
    expect(events).toHaveLength(before.length + 3);
    expect(await arrivals(id)).toEqual([{ early: false }]);
  });

  test('I3: rolled back, neither row nor event', async () => {
    const before = await settled();
    const later = { ending: 'rollback', delayMs: 1 } as const;
    await placeOrders(pool, sluice.stream('demo-orders'), [order, order], later);
    expect((await state()).later).toBe(0);
    // Due after it, so what was due before would stand before it.
    const { id } = (await post('/demo/later', order)).body as { id: number };
    const after = await settled();
    expect(after.slice(before.length)).toEqual([expect.objectContaining({ data: { id, ...order } })]);
  });
});

test('the state says what is committed and where a page may start', async () => {
  for (let placed = 0; placed < 9; placed++) await post('/demo/orders', order);
  const events = await settled();
  expect(await state()).toEqual({
    stream: 'demo-orders',
    orders: events.length,
    later: 0,
    head: String(events.length),
    oldest: '1',
    cursorHint: String(events.length - 8),
  });
});

describe('refusals', () => {
  const large = JSON.stringify({ ...order, note: 'x'.repeat(16_384) });
  test.each([
    ['{"item":"Fountain pen","quantity":0}', '"quantity" is 0; send a whole number from 1 to 99.'],
    ['{"item":"Fountain pen","quantity":100}', '"quantity" is 100; send a whole number from 1 to 99.'],
    ['{"item":"Fountain pen","quantity":1.5}', '"quantity" is 1.5; send a whole number from 1 to 99.'],
    ['{"item":"Fountain pen","quantity":"1"}', '"quantity" is "1"; send a whole number from 1 to 99.'],
    ['{"item":"Fountain pen"}', '"quantity" is missing; send a whole number from 1 to 99.'],
    ['{"item":"  ","quantity":1}', /^"item" is " {2}"; send a text of 1 to 80 characters/],
    ['{"item":"\\u0000","quantity":1}', /^"item" is "\\u0000"; send a text .* without control characters\.$/],
    [`{"item":"${'x'.repeat(81)}","quantity":1}`, /^"item" is "x{56}…; send a text/],
    ['{"quantity":1}', /^"item" is missing; send/],
    ['', 'The body is empty; send { "item": "Fountain pen", "quantity": 1 }.'],
    ['{', /^The body "\{" is not JSON; send \{/],
    ['[]', /^The body is \[\], not an object; send \{/],
    ['null', /^The body is null, not an object; send \{/],
  ])('400 for %s', async (body, detail) => {
    const before = await state();
    for (const path of ['/demo/orders', '/demo/later', '/demo/rollback']) {
      const response = await handle(send(path, body));
      expect(response.status).toBe(400);
      expect(response.headers.get('content-type')).toBe('application/problem+json');
      expect(await response.json()).toMatchObject({ status: 400, detail: expect.stringMatching(detail) });
    }
    expect(await state()).toEqual(before);
  });

  test.each([0, 1_001, -1, 2.5, '7', null])('400 for a burst of %j', async (count) => {
    const detail = `"count" is ${JSON.stringify(count)}; send a whole number from 1 to 1000.`;
    expect(await post('/demo/burst', { count })).toMatchObject({ status: 400, body: { detail } });
  });

  test('400 for bytes that are not UTF-8', async () => {
    expect((await handle(send('/demo/orders', new Uint8Array([0x22, 0xff, 0x22])))).status).toBe(400);
  });

  test('I7: 413 for a body over 16 KiB, before it is read as anything', async () => {
    expect((await handle(send('/demo/orders', large))).status).toBe(413);
  });

  test.each(['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data', 'application/jsonp'])(
    '415 for %s, which a form on another site could send',
    async (type) => {
      const response = await handle(send('/demo/orders', JSON.stringify(order), type));
      expect(response.status).toBe(415);
      expect(((await response.json()) as { detail: string }).detail).toContain(type);
    },
  );

  test('a parameter of the content type is no obstacle', async () => {
    const request = send('/demo/rollback', JSON.stringify(order), 'Application/JSON; charset=utf-8');
    expect((await handle(request)).status).toBe(200);
  });

  test.each([
    ['GET', '/demo/orders', 'POST'],
    ['PUT', '/demo/later', 'POST'],
    ['DELETE', '/demo/burst', 'POST'],
    ['PUT', '/demo/state', 'GET, HEAD'],
    ['DELETE', '/', 'GET, HEAD'],
    ['OPTIONS', '/demo/page.css', 'GET, HEAD'],
  ])('405 for %s %s', async (method, path, allow) => {
    const response = await get(path, method);
    expect([response.status, response.headers.get('allow')]).toEqual([405, allow]);
  });

  test.each(['/demo/nothing', '/demo/shop.js', '/demo/..%2fshop.js', '/demo/page.css/'])(
    '404 for %s',
    async (path) => {
      expect((await get(path)).status).toBe(404);
    },
  );

  test.each(['/v1/events', '/demo', '/livez', '/demonstration'])('%s is not the demo’s', async (path) => {
    expect(await shop.handle(new Request(`${origin}${path}`))).toBeNull();
  });
});

describe('the page', () => {
  test.each([
    ['/', 'text/html; charset=utf-8'],
    ['/demo/page.css', 'text/css; charset=utf-8'],
    ['/demo/icon.svg', 'image/svg+xml'],
  ])('%s is served, and to HEAD without its body', async (path, type) => {
    for (const method of ['GET', 'HEAD']) {
      const response = await get(path, method);
      expect(response.status).toBe(200);
      expect(response.headers.get('content-type')).toBe(type);
      expect((await response.text()) === '').toBe(method === 'HEAD');
    }
  });

  test('every answer forbids caching, sniffing and foreign content', async () => {
    for (const path of ['/', '/demo/page.css', '/demo/state', '/demo/orders', '/demo/nothing']) {
      const { headers } = await get(path);
      expect(headers.get('content-security-policy')).toMatch(/^default-src 'self';/);
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(headers.get('cache-control')).toBe('no-store');
    }
  });

  test('nothing in it is inline or from elsewhere', async () => {
    const html = await (await get('/')).text();
    expect(html).not.toMatch(/\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc="\/demo\/)|https?:/);
  });
});

test('a failing database is a 503 that says nothing internal, and the log hears why', async () => {
  const unreachable = new Pool({ host: '127.0.0.1', port: 1, user: 'nobody' });
  const stream = { publish: async () => ({}), info: async () => null };
  const silent: ShopSluice = { stream: () => stream, createStream: async () => ({}) };
  const heard: unknown[] = [];
  const broken = createShop({
    sluice: silent,
    pool: unreachable,
    logger: { error: (fields, message) => heard.push(fields, message) },
  });
  for (const path of ['/demo/orders', '/demo/later', '/demo/rollback']) {
    const response = await handle(send(path, JSON.stringify(order)), broken);
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1']);
    expect(await response.text()).not.toMatch(/ECONN|127\.0\.0\.1|nobody/);
  }
  expect(heard).toEqual([
    { err: expect.objectContaining({ code: 'ECONNREFUSED' }), method: 'POST', path: '/demo/orders' },
    'The demo shop failed',
    expect.objectContaining({ path: '/demo/later' }),
    'The demo shop failed',
    expect.objectContaining({ path: '/demo/rollback' }),
    'The demo shop failed',
  ]);
  await unreachable.end();
});
