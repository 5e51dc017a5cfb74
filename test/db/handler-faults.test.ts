// Guards groups against what handlers and callers hand them (I5): errors that cannot be read, times the database does not
// know, events named twice or too late, signals that are none. None of it ends the process, loses or doubles an event.
import {
  connect,
  type BatchContext,
  type ConsumeOptions,
  type Sluice,
  type SluiceError,
  type Stream,
} from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { fill } from '../support/filled.ts';

const db = useDatabase({ allowOpenSessions: true });
let sluice: Sluice;
beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 200 });
});
afterAll(async () => sluice.close());

const SOON = { backoff: { initialMs: 1, maxMs: 1 } };
const AGES = new Date(8.64e15); // the year 275760
const code = (wanted: SluiceError['code']): unknown => expect.objectContaining({ code: wanted });

const filled = async (count: number): Promise<Stream<number>> => fill(sluice, count);

const withGetter = (name: string): Error =>
  Object.defineProperty(new Error('told'), name, {
    get: () => {
      throw new Error('not to be read');
    },
  });

describe('I5: an error that cannot be read is a failure like any other', () => {
  test.each<[string, unknown]>([
    ['its stack is a list of call sites', Object.assign(new Error('told'), { stack: [{}] })],
    ['its stack throws', withGetter('stack')],
    ['its retryAt throws', withGetter('retryAt')],
    ['its message is a symbol', Object.assign(new Error('told'), { stack: undefined, message: Symbol('m') })],
    [
      'it is a proxy that lets nobody in',
      new Proxy(new Error('told'), {
        get: () => {
          throw new Error('not to be read');
        },
      }),
    ],
  ])('%s', async (_, thrown) => {
    const ending = new AbortController();
    const { signal } = ending;
    const stream = await filled(1);
    const settings = { ...SOON, maxAttempts: 2 };
    const [single, batch, lease] = [
      stream.group('single', settings),
      stream.group('batch', settings),
      stream.group('lease', settings),
    ];
    const fails = async (): Promise<void> => Promise.reject(thrown);
    const consuming = [single.consume(fails, { signal }), batch.consumeBatch(fails, { signal })];
    await (await lease.claim())?.ack({ failed: [{ offset: 1n, error: thrown }] });
    await until(async () => (await single.stats()).dead === 1 && (await batch.stats()).dead === 1);
    expect(await lease.stats()).toMatchObject({ retries: 1 });
    ending.abort();
    await Promise.all(consuming);
  });
});

describe('I5: a time that the database does not know', () => {
  test('of an error, however far away, keeps its event and no other', async () => {
    const stream = await filled(2);
    const ending = new AbortController();
    const group = stream.group('g');
    const consuming = group.consume(
      async ({ data }) => {
        if (data === 1) throw Object.assign(new Error('busy for ages'), { retryAt: AGES });
        return Promise.resolve();
      },
      { signal: ending.signal },
    );
    await until(async () => (await group.stats()).lag === 1); // the other one is done
    ending.abort();
    await consuming;
    expect(await group.stats()).toMatchObject({ lag: 1, inFlight: 0, retries: 1 });
  });

  test('named for an event of a batch or a lease', async () => {
    const stream = await filled(2);
    const ending = new AbortController();
    const group = stream.group('g');
    const refused: unknown[] = [];
    const consuming = group.consumeBatch(
      async (_events, { fail }) => {
        for (const retryAt of ['soon', new Date(Number.NaN), AGES]) {
          try {
            fail(1n, 'busy', { retryAt: retryAt as Date });
          } catch (error) {
            refused.push(error);
          }
        }
        return Promise.resolve();
      },
      { signal: ending.signal },
    );
    await until(async () => (await group.stats()).retries === 1);
    ending.abort();
    await consuming;
    expect(refused).toEqual([expect.any(TypeError), expect.any(RangeError)]);
    expect(await group.stats()).toMatchObject({ lag: 1, inFlight: 0 });
    const lease = await stream.group('by hand').claim();
    const ack = async (retryAt: unknown): Promise<void> =>
      lease?.ack({ failed: [{ offset: 1n, error: 'busy', retryAt: retryAt as Date }] });
    await expect(ack('soon')).rejects.toThrow(/retryAt is "soon"; give a Date/);
    await expect(ack(new Date(Number.NaN))).rejects.toThrow(RangeError);
    await ack(AGES);
    expect(await stream.group('by hand').stats()).toMatchObject({ lag: 1, retries: 1 });
  });

  test('sought, or looked for among dead letters', async () => {
    const group = (await filled(3)).group('g');
    await group.seek(AGES);
    expect(await group.stats()).toMatchObject({ cursor: 3n });
    await group.seek(new Date(-8.64e15));
    expect(await group.stats()).toMatchObject({ cursor: 0n });
    const since = async (date: unknown): Promise<number> => {
      let count = 0;
      for await (const _ of group.deadLetters.list({ since: date as Date })) count += 1;
      return count;
    };
    expect(await since(AGES)).toBe(0);
    await expect(since('yesterday')).rejects.toThrow(/since is "yesterday"; give a Date/);
    await expect(since(new Date(Number.NaN))).rejects.toThrow(RangeError);
  });
});

test('I5: an event that is named twice fails once, as was said last', async () => {
  const group = (await filled(2)).group('g', { maxAttempts: 1 });
  const failed = ['first', 'second'].map((error) => ({ offset: 1n, error }));
  await (await group.claim())?.ack({ failed });
  expect(await group.stats()).toMatchObject({ lag: 0, dead: 1 });
  const errors: (string | null)[] = [];
  for await (const { error } of group.deadLetters.list()) errors.push(error);
  expect(errors).toEqual(['second']);
  const again = (await filled(1)).group('g');
  await (await again.claim())?.ack({ failed });
  expect(await again.stats()).toMatchObject({ lag: 1, retries: 1 });
});

test('I5: that an event failed cannot be said once its batch is over', async () => {
  const stream = await filled(1);
  const ending = new AbortController();
  const group = stream.group('g');
  const contexts: BatchContext[] = [];
  const consuming = group.consumeBatch(
    async (_events, context) => {
      contexts.push(context);
      return Promise.resolve();
    },
    { signal: ending.signal },
  );
  await until(async () => (await group.stats()).lag === 0);
  expect(() => contexts[0]?.fail(1n, 'too late')).toThrow(code('lease_lost'));
  ending.abort();
  await consuming;
});

test('I11: a signal that is none is refused, and does not keep Sluice from closing', async () => {
  const own = await connect({ connectionString: db.connectionString });
  await own.stream('signalled').append(1);
  const group = own.stream('signalled').group('g');
  const options = { signal: {} } as ConsumeOptions;
  await expect(group.consume(async () => Promise.resolve(), options)).rejects.toThrow(TypeError);
  await own.close();
});

test('dead letters are named by offsets, and nothing else', async () => {
  const group = (await filled(1)).group('g');
  for (const offset of [1, 'x', 2n ** 70n, -1n]) {
    const offsets = [offset] as bigint[];
    await expect(group.deadLetters.requeue({ offsets })).rejects.toThrow(/give offsets of dead letters/);
    await expect(group.deadLetters.drop({ offsets })).rejects.toThrow(/give offsets of dead letters/);
  }
});

test('the name of a group is called that', async () => {
  const stream = await filled(1);
  expect(() => stream.group('')).toThrow('a group name must not be empty');
  expect(() => stream.group('a\nb')).toThrow('group name "a\\nb" contains a control character');
});
