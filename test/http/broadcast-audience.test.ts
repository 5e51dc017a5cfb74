// Guards I10 for ephemerals: a message with a label reaches those of that audience and nobody else, on every process and
// however it was sent; in doubt nobody; and the connection that caused it need not be told.
import { connect, type BroadcastOptions, type Sluice } from 'sluice';
import type { Authorize, HandlerOptions } from 'sluice/http';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { nextMessage } from '../support/diagnostics.ts';
import { serve, type Serving } from '../support/serve.ts';
import { openSse, type SseClient } from '../support/sse.ts';

const db = useDatabase();
let here: Sluice;
let there: Sluice;
let serving: Serving;
let elsewhere: Serving;

const authorize: Authorize = (request) => {
  const role = request.headers.get('x-role');
  // A grant's own predicate is for events: it is never asked about a message.
  return Promise.resolve({ principal: role, context: { role }, visible: () => false });
};
const options: Partial<HandlerOptions> = {
  authorize,
  audiences: {
    admins: (context) => (context as { role: string }).role === 'admin',
    raising: () => (undefined as unknown as { role: string }).role === 'admin',
  },
};

beforeAll(async () => {
  const settings = { connectionString: db.connectionString, fallbackPollMs: 600_000 };
  [here, there] = await Promise.all([connect(settings), connect(settings)]);
  [serving, elsewhere] = await Promise.all([serve(here, options), serve(there, options)]);
  await here.createStream('room');
});
afterAll(async () => {
  await Promise.all([serving[Symbol.asyncDispose](), elsewhere[Symbol.asyncDispose]()]);
  await Promise.all([here.close(), there.close()]);
});

const open = async (role: string, at = serving): Promise<SseClient> => {
  const client = await openSse(at.url('room'), { headers: { 'x-role': role } });
  await client.opened();
  return client;
};
const idOf = (client: SseClient): string =>
  (client.control('open') as [{ connectionId: string }])[0].connectionId;
const got = (client: SseClient): unknown[] =>
  client.control('broadcast').map((message) => (message as { data: unknown }).data);
/** Ends with a message to all, behind which nothing more of this process can come. */
const broadcastAll = async (messages: [data: unknown, options: BroadcastOptions][]): Promise<void> => {
  for (const [data, to] of messages) await here.stream('room').broadcast(data, to);
  await here.stream('room').broadcast('the end');
};
const ended = async (...clients: SseClient[]): Promise<unknown[][]> => {
  for (const client of clients) await client.until((each) => got(each).includes('the end'));
  return clients.map((client) => got(client).slice(0, -1));
};

test('I10: a label: those of its audience get it, on both processes, small or large, together or alone', async () => {
  using admin = await open('admin');
  using viewer = await open('viewer');
  using adminThere = await open('admin', elsewhere);
  using viewerThere = await open('viewer', elsewhere);
  const large = 'secret '.repeat(9000);
  const room = here.stream('room');
  const to = { visibleTo: 'admins' };
  await Promise.all([room.broadcast('secret', to), room.broadcast('open'), room.broadcast(large, to)]);
  await db.query(`select sluice.broadcast('room', '"secret by SQL"', p_visible_to => 'admins')`);
  await broadcastAll([['secret', { ...to, type: 'note' }]]);
  const all = ['secret', 'open', large, 'secret by SQL', 'secret'];
  expect(await ended(admin, viewer, adminThere, viewerThere)).toEqual([all, ['open'], all, ['open']]);
  for (const client of [viewer, viewerThere]) {
    expect(JSON.stringify(client.frames)).not.toMatch(/secret|admins/);
  }
  expect(JSON.stringify(admin.frames)).not.toContain('admins'); // the label is on no wire
  expect(admin.control('broadcast').at(-2)).toEqual({ stream: 'room', type: 'note', data: 'secret' });
});

test('I10: closed in doubt: a label nobody knows, one that raises, a handler without audiences', async () => {
  using admin = await open('admin');
  await using plain = await serve(there);
  using anybody = await open('admin', plain);
  const reported = nextMessage<{ where: string; label: string; error: unknown }>(
    'sluice:background.failed', // the handler without audiences reports as well, that it has none
    ({ where, label, error }) => where === 'audience' && label === 'raising' && error instanceof TypeError,
  );
  const labels = ['unknown', 'constructor', '__proto__', 'raising'];
  await broadcastAll(labels.map((visibleTo) => ['secret', { visibleTo }]));
  expect(await ended(admin, anybody)).toEqual([[], []]);
  expect(await reported).toEqual({ where: 'audience', label: 'raising', error: expect.any(TypeError) });
});

test('exclude: the actor is spared the echo, wherever it is connected, and nobody else is', async () => {
  using actor = await open('admin', elsewhere);
  using otherTab = await open('admin', elsewhere);
  const exclude = idOf(actor);
  await db.query(`select sluice.broadcast('room', '1', p_exclude => $1)`, [exclude]);
  await broadcastAll([
    [2, { exclude: exclude.toUpperCase() }],
    [3, { exclude: null }],
    [4, { exclude, visibleTo: 'admins' }],
  ]);
  expect(await ended(actor, otherTab)).toEqual([[3], [1, 2, 3, 4]]);
});

test('what is no audience is refused before anything is sent', async () => {
  using admin = await open('admin');
  const room = here.stream('room');
  for (const given of [{ visibleTo: '' }, { visibleTo: null }, { exclude: 'everybody' }, { exclude: '' }]) {
    await expect(room.broadcast(1, given as BroadcastOptions)).rejects.toMatchObject({
      code: 'name_invalid',
    });
  }
  for (const label of ['', 'x'.repeat(129)]) {
    const call = db.query(`select sluice.broadcast('room', '1', p_visible_to => $1)`, [label]);
    await expect(call).rejects.toThrow(/^visible_to '.*' is not valid: it has/);
  }
  await broadcastAll([]);
  expect(await ended(admin)).toEqual([[]]);
});
