// Guards who of several readers of one subscription is given what: each notice goes to one of them, in order, whether it
// was asked for before it came or after, and the end reaches all (I11).
import { expect, test } from 'vitest';
import { Subscription } from '../../src/listen/subscription.ts';
import { Decoder } from '../../src/listen/decoder.ts';
import { silentLogger } from '../../src/util/logger.ts';
import { Seldom } from '../../src/util/seldom.ts';
import type { StandardSchemaV1 } from '../../src/util/standard-schema.ts';

const subscribe = (buffer = 10, schema?: StandardSchemaV1<unknown, undefined>): Subscription<undefined> => {
  const tally = { messages: 0, missed: 0, gaps: 0, malformed: 0, failed: 0 };
  const logger = silentLogger;
  const subscription = new Subscription<undefined>({
    channel: 'a',
    buffer,
    decoder: schema && new Decoder<undefined>({ channel: 'a', schema, tally, logger, seldom: new Seldom() }),
    tally,
    onEnd: () => {},
  });
  subscription.open();
  return subscription;
};

const tell = (subscription: Subscription<undefined>, ...payloads: string[]): void => {
  for (const payload of payloads) subscription.message({ kind: 'message', payload, processId: 1 });
};

test('notices that were asked for at once come one to each, in order, and the rest is kept', async () => {
  const subscription = subscribe();
  const asked = [subscription.next(), subscription.next(), subscription.next()];
  tell(subscription, '1');
  subscription.gap(2);
  tell(subscription, '2', '3');
  const told = await Promise.all([...asked, subscription.next()]);
  expect(told.map(({ value }) => value)).toEqual([
    { kind: 'message', payload: '1', processId: 1 },
    { kind: 'gap', generation: 2 },
    { kind: 'message', payload: '2', processId: 1 },
    { kind: 'message', payload: '3', processId: 1 },
  ]);
});

test('one who waits takes nothing from the buffer', async () => {
  const subscription = subscribe(1);
  const asked = subscription.next();
  tell(subscription, '1', '2');
  expect((await asked).value).toMatchObject({ payload: '1' });
  expect((await subscription.next()).value).toMatchObject({ payload: '2' });
});

test('I11: closing ends all who wait; a refusal is thrown to one of them', async () => {
  const end = { done: true, value: undefined };
  const closed = subscribe();
  const asked = [closed.next(), closed.next()];
  await closed.close();
  expect(await Promise.all([...asked, closed.next()])).toEqual([end, end, end]);
  const refused = subscribe();
  const waiting = [refused.next(), refused.next()];
  refused.refused(new Error('no such channel'));
  await expect(waiting[0]).rejects.toThrow('no such channel');
  expect([await waiting[1], await refused.next()]).toEqual([end, end]);
});

test('I7 I8: a reader that waits, falls behind and comes back is told of all of it, each time anew', async () => {
  const subscription = subscribe(1);
  for (const round of ['a', 'b']) {
    const waiting = [subscription.next(), subscription.next()];
    tell(subscription, `${round}1`, `${round}2`, `${round}3`, `${round}4`);
    subscription.gap(2);
    const told = [...waiting, subscription.next(), subscription.next(), subscription.next()];
    expect((await Promise.all(told)).map(({ value }) => value)).toMatchObject([
      { payload: `${round}1` },
      { payload: `${round}2` },
      { kind: 'lagged', missed: 1 },
      { payload: `${round}4` },
      { kind: 'gap' },
    ]);
  }
});

test('I11: closing ends one who waits for a schema that never answers, and those behind it', async () => {
  const validate = (): Promise<never> => new Promise(() => {});
  const schema = { '~standard': { version: 1, vendor: 'test', validate } } as const;
  for (const turns of [0, 1]) {
    const subscription = subscribe(10, schema);
    const asked = [subscription.next(), subscription.next()];
    await new Promise((done) => setImmediate(done));
    tell(subscription, '1');
    if (turns > 0) await new Promise((done) => setImmediate(done)); // else closed before the schema was asked
    await subscription.close();
    expect(await Promise.all(asked)).toEqual(asked.map(() => ({ done: true, value: undefined })));
  }
});
