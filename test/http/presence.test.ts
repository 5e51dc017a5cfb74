// Guards presence: who is there is told to all who take part, on every process, once per member however many tabs; it
// comes right by itself after a kill, a lost announcement, a lost lease and a stalled reader; and only a grant lets
// somebody in.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { connect, type Sluice } from 'sluice';
import type { Authorize } from 'sluice/http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { targetOf, through } from '../support/deaf-proxy.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { changesIn, presentIn } from '../support/present.ts';
import { createProxy } from '../support/proxy.ts';
import { serve, type Serving } from '../support/serve.ts';
import { openSse, type SseClient } from '../support/sse.ts';
import { root } from '../support/tidy/files.ts';
import { upTo } from '../support/up-to.ts';

const db = useDatabase({ allowOpenSessions: true });
const LEASE_MS = 2000;
let here: Sluice;
let there: Sluice;
let serving: Serving;
let elsewhere: Serving;

const byName: Authorize = (request) => {
  const as = new URL(request.url).searchParams.get('as');
  const presence = as === 'nobody' ? { id: null } : { id: as };
  return Promise.resolve({ principal: as, ...(as === null ? {} : { presence }) });
};

beforeAll(async () => {
  const options = {
    connectionString: db.connectionString,
    fallbackPollMs: 600_000,
    presenceLeaseMs: LEASE_MS,
    presenceGraceMs: 100,
  };
  [here, there] = await Promise.all([connect(options), connect(options)]);
  const open = (sluice: Sluice): Promise<Serving> => serve(sluice, { authorize: byName });
  [serving, elsewhere] = await Promise.all([open(here), open(there)]);
});
afterAll(async () => {
  await Promise.all([serving[Symbol.asyncDispose](), elsewhere[Symbol.asyncDispose]()]);
  await Promise.all([here.close(), there.close()]);
});

let made = 0;
const newStream = async (): Promise<string> => {
  const name = `room ${(made += 1)}`;
  await here.createStream(name);
  return name;
};
const enter = (server: { url: Serving['url'] }, stream: string, as: string, state = ''): Promise<SseClient> =>
  openSse(server.url(stream, `as=${as}&presence=${encodeURIComponent(state)}`));
const sees = (client: SseClient, stream: string, members: Record<string, unknown>): Promise<void> =>
  client.until(({ frames }) => {
    const present = presentIn(frames, stream);
    return present !== undefined && inOrder(present) === inOrder(members);
  });
const inOrder = (members: Record<string, unknown>): string =>
  JSON.stringify(
    Object.keys(members)
      .toSorted((a, b) => (a < b ? -1 : 1))
      .map((id) => [id, members[id]]),
  );

test('those who come, change and go are told, on both processes; list and count agree', async () => {
  const room = await newStream();
  using ann = await enter(serving, room, 'ann', '{"status":"here"}');
  await sees(ann, room, { ann: { status: 'here' } });
  const bob = await enter(elsewhere, room, 'bob', '[1]');
  for (const client of [ann, bob]) await sees(client, room, { ann: { status: 'here' }, bob: [1] });
  using watcher = await enter(elsewhere, room, 'nobody');
  await sees(watcher, room, { ann: { status: 'here' }, bob: [1] });
  expect(await there.stream(room).presence.count()).toBe(2);
  expect(await here.stream(room).presence.list()).toEqual([
    { id: 'ann', state: { status: 'here' } },
    { id: 'bob', state: [1] },
  ]);
  using again = await enter(elsewhere, room, 'ann', '{"status":"away"}');
  for (const client of [ann, again, bob]) await sees(client, room, { ann: { status: 'away' }, bob: [1] });
  bob.close();
  for (const client of [ann, watcher]) await sees(client, room, { ann: { status: 'away' } });
  expect(changesIn(ann.frames, room).slice(-3)).toEqual(['join bob', 'update ann', 'leave bob']);
  expect(await here.stream(room).presence.count()).toBe(1);
});

test('many tabs are one member, who leaves with the last of them', async () => {
  const room = await newStream();
  using watcher = await enter(serving, room, 'nobody');
  await sees(watcher, room, {});
  const tabs: SseClient[] = [];
  for (let tab = 0; tab < 6; tab += 1)
    tabs.push(await enter(tab % 2 === 0 ? serving : elsewhere, room, 'ann'));
  await until(async () => (await connectionsIn(room)) === 6);
  expect(await here.stream(room).presence.list()).toEqual([{ id: 'ann', state: null }]);
  for (const tab of tabs.slice(1)) tab.close();
  await until(async () => (await connectionsIn(room)) === 1);
  expect(await here.stream(room).presence.count()).toBe(1);
  tabs[0]?.close();
  await sees(watcher, room, {});
  await watcher.until(({ frames }) => changesIn(frames, room).includes('leave ann'));
  expect(changesIn(watcher.frames, room)).toEqual(['join ann', 'leave ann']);
});

const idsIn = async (stream: string): Promise<string[]> => {
  const { rows } = await db.query<{ id: string }>(
    'select connection_id as id from sluice.presence where stream = $1',
    [stream],
  );
  return rows.map(({ id }) => id);
};
const connectionsIn = async (stream: string): Promise<number> => (await idsIn(stream)).length;

test('who comes back in time, to the same process or another, was never gone', async () => {
  await using patient = await connect({ connectionString: db.connectionString, presenceGraceMs: 4000 });
  await using served = await serve(patient, { authorize: byName });
  const comesBack = async (to: Serving): Promise<void> => {
    const room = await newStream();
    using watcher = await enter(serving, room, 'nobody');
    await sees(watcher, room, {});
    const first = await enter(served, room, 'ann');
    await sees(watcher, room, { ann: null });
    first.close();
    using again = await enter(to, room, 'ann');
    await again.opened();
    const [{ connectionId }] = again.control('open') as [{ connectionId: string }];
    // The new connection is entered, and the time of the old one is over.
    await until(async () => (await idsIn(room)).join() === connectionId);
    using bob = await enter(serving, room, 'bob');
    for (const client of [watcher, again, bob]) await sees(client, room, { ann: null, bob: null });
    expect(changesIn(watcher.frames, room)).toEqual(['join ann', 'join bob']);
  };
  await Promise.all([comesBack(served), comesBack(elsewhere)]);
});

test('several streams on a connection: present in each, and nothing moves its id (I9)', async () => {
  const [a, b] = [await newStream(), await newStream()];
  const more = `stream=${encodeURIComponent(b)}&as=ann&presence=`;
  using ann = await openSse(serving.url(a, more));
  using bob = await enter(serving, b, 'bob');
  for (const client of [ann, bob]) await sees(client, b, { ann: null, bob: null });
  await sees(ann, a, { ann: null });
  await ann.opened();
  expect(ann.frames.filter(({ id }) => id !== undefined)).toHaveLength(1);
  using bystander = await openSse(serving.url(b, 'as=eve'));
  await here.stream(b).append(1);
  await bystander.received(1);
  expect(bystander.control('presence')).toEqual([]);
  expect(await here.stream(b).presence.count()).toBe(2);
});

describe('it comes right by itself', () => {
  test('a server is killed: those it served have left within the lease, those who moved have not', async () => {
    const room = await newStream();
    using watcher = await enter(serving, room, 'nobody');
    // Long enough to have moved before it is over, on any machine.
    const options = { connectionString: db.connectionString, presenceLeaseMs: 3 * LEASE_MS };
    const child = spawn(
      process.execPath,
      [`${root}test/support/presence-child.mjs`, JSON.stringify(options)],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    const [port] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
    const doomed = { url: (stream: string, query: string) => serving.url(stream, query, Number(port)) };
    using ann = await enter(doomed, room, 'ann');
    using bob = await enter(doomed, room, 'bob');
    await sees(watcher, room, { ann: null, bob: null });
    child.kill('SIGKILL');
    await once(child, 'close');
    for (const client of [ann, bob]) await client.ended();
    using moved = await enter(serving, room, 'ann');
    await sees(watcher, room, { ann: null });
    await sees(moved, room, { ann: null });
    expect(changesIn(watcher.frames, room)).not.toContain('leave ann');
    await until(async () => (await connectionsIn(room)) === 1);
  });

  test('I4: nothing was announced: the next reading of all finds it', async () => {
    const room = await newStream();
    using watcher = await enter(serving, room, 'nobody');
    using ann = await enter(serving, room, 'ann');
    await sees(watcher, room, { ann: null });
    await db.query(
      `insert into sluice.presence (stream, member, connection_id, holder, state)
       select stream, 'silent', gen_random_uuid(), holder, '"x"' from sluice.presence where stream = $1`,
      [room],
    );
    await sees(watcher, room, { ann: null, silent: 'x' });
    await db.query(`delete from sluice.presence where stream = $1 and member = 'silent'`, [room]);
    await sees(watcher, room, { ann: null });
    ann.close();
  });

  test('a process that served thousands is gone: one beat sees it, and takes out what it left', async () => {
    const room = await newStream();
    using watcher = await enter(serving, room, 'nobody');
    await sees(watcher, room, {});
    await nextMessage('sluice:presence.renewed'); // the next beat finds it
    await db.query(
      `with gone as (insert into sluice.presence_holders values (gen_random_uuid(), '-infinity') returning id)
       insert into sluice.presence (stream, member, connection_id, holder, state)
       select $1, 'm' || n, gen_random_uuid(), id, 'null' from gone, generate_series(1, 5000) n`,
      [room],
    );
    // A beat that was under way may have looked before.
    for (let beat = 0; beat < 2 && (await connectionsIn(room)) > 0; beat += 1)
      await nextMessage('sluice:presence.renewed');
    expect(await connectionsIn(room)).toBe(0);
  });

  test('the tables were emptied, as by a crash: whoever is connected is entered again', async () => {
    const room = await newStream();
    using ann = await enter(serving, room, 'ann');
    using bob = await enter(elsewhere, room, 'bob');
    await sees(ann, room, { ann: null, bob: null });
    await db.query('truncate sluice.presence, sluice.presence_holders');
    await until(async () => (await here.stream(room).presence.count()) === 2);
    for (const client of [ann, bob]) await sees(client, room, { ann: null, bob: null });
  });

  test('the newest tab of each member says its state still, after a crash that took them all', async () => {
    const room = await newStream();
    const members = upTo(10).map((n) => `member ${n}`);
    const all = Object.fromEntries(members.map((id) => [id, 'newest']));
    const tabs: SseClient[] = [];
    for (const state of ['"oldest"', '"older"', '"newest"']) {
      for (const as of members) tabs.push(await enter(serving, room, as, state));
    }
    await sees(tabs[0]!, room, all);
    const before = tabs[0]!.frames.length;
    await db.query('truncate sluice.presence, sluice.presence_holders');
    const entered = `select count(*)::int as rows from sluice.presence where stream = $1`;
    await until(async () => (await db.query(entered, [room])).rows[0]?.['rows'] === tabs.length);
    expect(await here.stream(room).presence.list()).toEqual(
      members.toSorted().map((id) => ({ id, state: 'newest' })),
    );
    expect(tabs[0]!.frames.slice(before).map(({ data }) => data)).not.toContainEqual(
      expect.stringContaining('old'),
    );
    for (const tab of tabs) tab.close();
  });

  test('a process that was frozen too long is thought gone, and comes back', async () => {
    const room = await newStream();
    using proxy = await createProxy(targetOf(db.connectionString));
    await using freezing = await connect({
      connectionString: through(proxy, db.connectionString),
      listenConnectionString: db.connectionString,
      presenceLeaseMs: LEASE_MS,
    });
    await using served = await serve(freezing, { authorize: byName });
    using ann = await enter(served, room, 'ann');
    using bob = await enter(elsewhere, room, 'bob');
    for (const client of [ann, bob]) await sees(client, room, { ann: null, bob: null });
    proxy.pause(); // nothing of it reaches the database, its lease is over
    await bob.until(({ frames }) => changesIn(frames, room).includes('leave ann'));
    proxy.resume();
    for (const client of [ann, bob]) await sees(client, room, { ann: null, bob: null });
  });

  test('a process that others thought gone and have cleaned up after enters all again, not only who comes now', async () => {
    const room = await newStream();
    // Long enough that no beat finds it first.
    await using slow = await connect({ connectionString: db.connectionString, presenceLeaseMs: 600_000 });
    await using served = await serve(slow, { authorize: byName });
    using ann = await enter(served, room, 'ann');
    await sees(ann, room, { ann: null });
    await db.query(
      `with gone as (delete from sluice.presence where stream = $1 returning holder)
       delete from sluice.presence_holders where id in (select holder from gone)`,
      [room],
    );
    using bob = await enter(served, room, 'bob');
    await sees(bob, room, { ann: null, bob: null });
    expect(await connectionsIn(room)).toBe(2);
  });

  test('I7: a stalled connection costs nothing and finds the state again', async () => {
    const room = await newStream();
    using stalled = await enter(serving, room, 'nobody');
    await sees(stalled, room, {});
    stalled.pause();
    const filler = 'x'.repeat(50_000);
    const dropped = nextMessage('sluice:sse.dropped');
    const seen = { full: false };
    void dropped.then(() => (seen.full = true));
    while (!seen.full) await here.stream(room).broadcast(filler);
    using ann = await enter(serving, room, 'ann');
    using bob = await enter(elsewhere, room, 'bob');
    for (const client of [ann, bob]) await sees(client, room, { ann: null, bob: null });
    stalled.resume();
    await sees(stalled, room, { ann: null, bob: null });
  });

  test('a process that closes takes its members along after their time to come back', async () => {
    const room = await newStream();
    using watcher = await enter(serving, room, 'nobody');
    await using closing = await connect({ connectionString: db.connectionString, presenceGraceMs: 50 });
    const served = await serve(closing, { authorize: byName });
    using ann = await enter(served, room, 'ann');
    await sees(watcher, room, { ann: null });
    await served[Symbol.asyncDispose]();
    await closing.close();
    await ann.ended();
    await sees(watcher, room, {});
  });
});

describe('who may', () => {
  const status = async (query: string, authorize: Authorize = byName): Promise<number> => {
    await using served = await serve(here, { authorize });
    const response = await fetch(served.url(await newStream(), query));
    await response.body?.cancel();
    return response.status;
  };

  test('only with a grant, and only with a state that is JSON and short', async () => {
    expect(await status('presence=')).toBe(403);
    expect(await status('as=ann')).toBe(200);
    expect(await status('as=ann&presence=%7B')).toBe(400);
    expect(await status(`as=ann&presence="${'x'.repeat(1100)}"`)).toBe(400);
    expect(await status('as=nobody&presence=1')).toBe(200);
  });

  test('a grant that names nobody properly opens nothing', async () => {
    for (const id of ['', 'a\nb', '\ud800', 'x'.repeat(256), 7 as unknown as string]) {
      expect(await status('presence=', () => Promise.resolve({ principal: null, presence: { id } }))).toBe(
        500,
      );
    }
  });

  test('a state in the grant wins over what the client says', async () => {
    const room = await newStream();
    const presence = { id: 'ann', state: { name: 'Ann' } };
    await using served = await serve(here, {
      authorize: () => Promise.resolve({ principal: 'ann', presence }),
    });
    using ann = await enter(served, room, 'ann', '{"name":"Admin"}');
    await sees(ann, room, { ann: { name: 'Ann' } });
  });
});
