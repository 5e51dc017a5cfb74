// Guards what the client tells of the present alone: broadcasts, and who is there, also to those who join a connection
// that knows already. Neither moves a cursor (I9).
import { connect, type Sluice } from 'sluice';
import { createClient, type Client, type PresenceItem } from 'sluice/client';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { serve, type Serving } from '../support/serve.ts';
import { collect, type Reader } from '../support/stream-reader.ts';

const db = useDatabase();
let sluice: Sluice;
let serving: Serving;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 100, presenceGraceMs: 50 });
  serving = await serve(sluice, {
    limits: { retryMs: 20 },
    authorize: async (request) => {
      const id = request.headers.get('x-user');
      return { principal: id, presence: { id } };
    },
  });
  return async () => {
    await serving[Symbol.asyncDispose]();
    await sluice.close();
  };
});

const open = (user: string): Client => {
  const client = createClient({ url: serving.origin, headers: { 'x-user': user } });
  onTestFinished(() => client.close());
  return client;
};
const lastMembers = ({ items }: Reader): unknown =>
  items.filter((item): item is PresenceItem => item.kind === 'presence').at(-1)?.members;

test('I9: a broadcast comes once to all who read the stream, and leaves the cursor alone', async () => {
  await sluice.stream('talk').append(1);
  const client = open('ann');
  const subscriptions = [client.subscribe('talk'), client.subscribe('talk', { after: 'start' })];
  const readers = subscriptions.map(collect);
  await Promise.all(subscriptions.map(({ ready }) => ready));
  await until(() => client.status.get().connections.length === 1 && readers[1]!.offsets.length === 1);
  await sluice.stream('talk').broadcast({ typing: 'bob' }, { type: 'typing' });
  await until(() => readers.every(({ items }) => items.some(({ kind }) => kind === 'broadcast')));
  const item = { kind: 'broadcast', stream: 'talk', type: 'typing', data: { typing: 'bob' } };
  expect(readers.map(({ items }) => items.filter(({ kind }) => kind === 'broadcast'))).toEqual([
    [item],
    [item],
  ]);
  const { cursor } = await sluice.stream('talk').read();
  expect(subscriptions.map((subscription) => subscription.cursor)).toEqual([cursor, cursor]);
});

test('presence is asked for by a subscription, and told as everybody who is there', async () => {
  await sluice.createStream('room');
  const [ann, bob] = [open('ann'), open('bob')];
  const first = collect(ann.subscribe('room', { presence: { mood: 'fine' } }));
  const member = { id: 'ann', state: { mood: 'fine' } };
  await until(() => JSON.stringify(lastMembers(first)) === JSON.stringify([member]));
  const second = bob.subscribe('room', { presence: null });
  const reader = collect(second);
  const both = [member, { id: 'bob', state: null }];
  await until(() =>
    [first, reader].every((each) => (lastMembers(each) as unknown[] | undefined)?.length === 2),
  );
  expect([lastMembers(first), lastMembers(reader)]).toEqual([
    expect.arrayContaining(both),
    expect.arrayContaining(both),
  ]);
  const late = collect(ann.subscribe('room', { presence: { mood: 'fine' } }));
  await until(() => (lastMembers(late) as unknown[] | undefined)?.length === 2);
  await until(() => ann.status.get().connections.length === 1);
  const plain = ann.subscribe('room');
  const deaf = collect(plain);
  await plain.ready;
  second.close();
  await until(() => [first, late].every((each) => (lastMembers(each) as unknown[]).length === 1));
  await sluice.stream('room').append(1);
  await Promise.all([first, late, deaf].map((each) => each.received(1)));
  expect(lastMembers(deaf)).toBeUndefined();
});
