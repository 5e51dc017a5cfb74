// Guards that notifications arrive, in order and once, however the driver attaches to its stream (I8): the sieve in
// front of it sits at a place that is no public part of the driver.
import type { Duplex } from 'node:stream';
import { Client } from 'pg';
import { createNotifyBus } from 'sluice';
import { afterEach, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';

interface Driver {
  attachListeners: (this: Driver, stream: Duplex) => void;
}

const db = useDatabase();
const driver = Object.getPrototypeOf(new Client().connection) as Driver;
const { attachListeners } = driver;
afterEach(() => {
  driver.attachListeners = attachListeners;
});

/** What a bus hears of a thousand notifications beside a statement of its own. */
async function heardByBus(): Promise<unknown[]> {
  await using bus = createNotifyBus({ connectionString: db.connectionString });
  const notices = await bus.subscribe('orders', { buffer: 2000 });
  await db.query(`select pg_notify('orders', n::text) from generate_series(1, 1000) n`);
  const heard: unknown[] = [];
  for await (const notice of notices) {
    heard.push(notice.kind === 'message' ? notice.payload : notice.kind);
    if (heard.length === 500) await bus.subscribe('others');
    if (heard.length === 1000) break;
  }
  return heard;
}

const inOrder = Array.from({ length: 1000 }, (_, n) => String(n + 1));

test('as it does today, through the sieve', async () => {
  expect(await heardByBus()).toEqual(inOrder);
});

test('by another method of its stream, from the driver', async () => {
  driver.attachListeners = function (stream) {
    const other = new Proxy(stream, {
      get: (_, name) => {
        const member: unknown = Reflect.get(stream, name === 'on' ? 'addListener' : name);
        return typeof member === 'function' ? member.bind(stream) : member;
      },
    });
    attachListeners.call(this, other);
  };
  expect(await heardByBus()).toEqual(inOrder);
});
