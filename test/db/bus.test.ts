// Guards the bus where nothing fails: who hears what, in which order, and with which bound. How it ends is in
// bus-ending.test.ts; what happens to it when the network or the server fails is in chaos/bus.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Client } from 'pg';
import { connect, createNotifyBus, SluiceError, type NotifyBus, type NotifyBusOptions } from 'sluice';
import { describe, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { serverChannel } from '../../src/listen/channel.ts';
import { useDatabase } from '../support/database.ts';
import { targetOf, through } from '../support/deaf-proxy.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { killListener } from '../support/faults.ts';
import { MessageProxy } from '../support/message-proxy.ts';
import { Notices, notifyAll } from '../support/notices.ts';
import { createProxy } from '../support/proxy.ts';

const db = useDatabase();
const COMMAND_COMPLETE = 'C'.charCodeAt(0);

const open = (options: NotifyBusOptions = {}): NotifyBus =>
  createNotifyBus({ connectionString: db.connectionString, heartbeatMs: 50, ...options });

const send = async (channel: string, ...payloads: string[]): Promise<void> =>
  notifyAll(db, channel, payloads);

/** What the server says the bus's session listens to, Sluice's own channels aside. */
const listeningChannels = async (): Promise<string[]> => {
  const { rows } = await db.query<{ query: string }>(
    `select query from pg_stat_activity where datname = current_database() and application_name = 'sluice listener'`,
  );
  return rows.map(({ query }) => query);
};

describe('what the first bus of its kind promised', () => {
  test('a channel that is subscribed to is received, and all of its subscriptions hear it', async () => {
    await using bus = open();
    const [one, two] = [new Notices(await bus.subscribe('a')), new Notices(await bus.subscribe('a'))];
    await bus.notify('a', 'hello');
    await until(() => one.all.length === 1 && two.all.length === 1);
    expect(one.all).toEqual([{ kind: 'message', payload: 'hello', processId: expect.any(Number) }]);
    expect(two.payloads).toEqual(['hello']);
  });

  test('one that is not is not', async () => {
    await using bus = open();
    const heard = new Notices(await bus.subscribe('known'));
    await send('unknown', 'x');
    await send('known', 'y');
    await until(() => heard.all.length > 0);
    expect(heard.payloads).toEqual(['y']);
  });

  test('channels names all of them: those given and those subscribed to, as long as they are', async () => {
    await using bus = open({ channels: ['one', 'two'] });
    const subscription = await bus.subscribe('three');
    const second = await bus.subscribe('one');
    expect([...bus.channels].sort()).toEqual(['one', 'three', 'two']);
    await subscription.close();
    await second.close();
    expect([...bus.channels].sort()).toEqual(['one', 'two']);
  });

  test('a notification nobody is subscribed to is no error', async () => {
    await using bus = open({ channels: ['given'] });
    await bus.notify('nobody', 'x');
    await bus.notify('given', 'x');
    const heard = new Notices(await bus.subscribe('given'));
    await bus.notify('given', 'y');
    await until(() => heard.payloads.at(-1) === 'y'); // the one before may still have been on its way
  });

  test('without channels it is empty, and connects only when there is something to do', async () => {
    await using bus = open({ channels: [] });
    expect(bus.channels).toEqual([]);
    expect(bus.stats()).toMatchObject({
      channels: 0,
      generation: 0,
      state: 'connecting',
    });
    await bus.notify('a');
    expect(bus.generation).toBe(0);
  });

  test('generations count from 0: the first session is 1, the next is 2, and each is told', async () => {
    await using bus = open();
    const generations = bus.generations()[Symbol.asyncIterator]();
    expect(bus.generation).toBe(0);
    expect(await generations.next()).toEqual({ done: false, value: 1 });
    for (const generation of [2, 3]) {
      const connected = nextMessage('sluice:listener.connected');
      await killListener(db);
      await connected;
      expect(bus.generation).toBe(generation);
    }
    expect([(await generations.next()).value, (await generations.next()).value]).toEqual([2, 3]);
  });
});

describe('channels', () => {
  test.each([
    'UPPER and spaces',
    `quotes ' " \\ ; -- $$`,
    'tab\t and\nline',
    'канал',
    '日本語'.repeat(30),
    'x'.repeat(63),
    'x'.repeat(64),
    '🦊'.repeat(16),
  ])('any name: %j', async (name) => {
    await using bus = open();
    const heard = new Notices(await bus.subscribe(name));
    await bus.notify(name, 'ours');
    await send(serverChannel(name), 'theirs');
    await until(() => heard.all.length === 2);
    expect(heard.payloads).toEqual(['ours', 'theirs']);
    expect(bus.channels).toEqual([name]);
  });

  test('the name of a long one is what SQL makes of it as documented', async () => {
    const name = 'ü'.repeat(50);
    const { rows } = await db.query<{ channel: string }>(
      `select 'sluice:' || left(encode(sha256(convert_to($1, 'UTF8')), 'hex'), 56) as channel`,
      [name],
    );
    expect(serverChannel(name)).toBe(rows[0]?.channel);
  });

  test('names that share their first 63 bytes are two channels', async () => {
    await using bus = open();
    const start = 'n'.repeat(70);
    const [one, two] = await Promise.all([bus.subscribe(`${start}1`), bus.subscribe(`${start}2`)]);
    const [first, second] = [new Notices(one), new Notices(two)];
    await bus.notify(`${start}1`, 'one');
    await bus.notify(`${start}2`, 'two');
    await until(() => first.all.length > 0 && second.all.length > 0);
    expect([first.payloads, second.payloads]).toEqual([['one'], ['two']]);
  });

  test('I4: thousands are listened to over one connection, and each is in force when subscribe resolves', async () => {
    await using bus = open();
    const names = Array.from({ length: 3000 }, (_, n) => `many ${n}`);
    const heard = (await Promise.all(names.map((name) => bus.subscribe(name)))).map(
      (each) => new Notices(each),
    );
    await db.query('select pg_notify(n, n) from unnest($1::text[]) n', [names]);
    await until(() => heard.every(({ all }) => all.length === 1));
    expect(heard.every(({ payloads }, n) => payloads[0] === names[n])).toBe(true);
    expect(bus.stats()).toMatchObject({ channels: 3000, subscriptions: 3000, generation: 1 });
    expect((await listeningChannels()).length).toBe(1);
  });

  test('I4: subscribe resolves when the server has LISTEN in force, also in a session that there is', async () => {
    using proxy = await createProxy(targetOf(db.connectionString));
    const listenConnectionString = through(proxy, db.connectionString);
    await using bus = open({ listenConnectionString, heartbeatMs: 1000 });
    await bus.subscribe('early');
    proxy.pauseClientToServer();
    let resolved = false;
    const subscribing = bus.subscribe('late').then((subscription) => {
      resolved = true;
      return new Notices(subscription);
    });
    await send('late', 'before LISTEN');
    expect(resolved).toBe(false);
    proxy.resume();
    const late = await subscribing;
    await send('late', 'after');
    await until(() => late.all.length > 0);
    expect(late.payloads).toEqual(['after']);
  });

  test('a channel is unlistened to a while after its last subscription left, and not while there is one', async () => {
    // What its session did last can be seen until the next heartbeat.
    await using bus = open({ heartbeatMs: 2000, idleSessionTimeoutMs: 60_000 });
    const keeps = new Notices(await bus.subscribe('kept'));
    const leaving = [await bus.subscribe('left'), await bus.subscribe('left')];
    await leaving[0]!.close();
    await leaving[1]!.close();
    await until(async () => (await listeningChannels()).some((query) => query === 'unlisten "left"'));
    const again = new Notices(await bus.subscribe('left'));
    await bus.notify('left', 'back');
    await bus.notify('kept', 'still');
    await until(() => again.all.length === 1 && keeps.all.length === 1);
  });

  test('one that comes back before that goes on without another LISTEN', async () => {
    await using bus = open({ heartbeatMs: 5000, idleSessionTimeoutMs: 60_000 });
    await (await bus.subscribe('again')).close();
    const before = await listeningChannels();
    const heard = new Notices(await bus.subscribe('again'));
    expect(await listeningChannels()).toEqual(before);
    await bus.notify('again', 'x');
    await until(() => heard.all.length === 1);
  });

  test('I7: however many come and go within a heartbeat, the next one unlistens to all that were left', async () => {
    let unlistened = 0;
    using proxy = new MessageProxy(targetOf(db.connectionString), () => (message) => {
      if (message[0] === COMMAND_COMPLETE && message.includes('UNLISTEN')) unlistened += 1;
      return message;
    });
    await proxy.listen();
    await using bus = createNotifyBus({
      connectionString: db.connectionString,
      listenConnectionString: through(proxy, db.connectionString),
    });
    let beats = 0;
    const onBeat = (): void => void (beats += 1);
    subscribe('sluice:listener.beat', onBeat);
    onTestFinished(() => void unsubscribe('sluice:listener.beat', onBeat));
    const names = Array.from({ length: 5000 }, (_, n) => `brief ${n}`);
    const left = await Promise.all(names.map((name) => bus.subscribe(name)));
    const quiet = beats;
    await until(() => beats > quiet); // one at least has found nothing that was left
    const before = beats;
    await Promise.all(left.map((each) => each.close()));
    await until(() => unlistened === names.length);
    expect(beats - before).toBeLessThan(names.length / 500); // as many as one statement takes
  });

  test('I4: the channel of the heartbeat can be subscribed to and left, and is still heard', async () => {
    await using bus = open({ heartbeatMs: 100, listenDeadlineMs: 400 });
    const keeps = new Notices(await bus.subscribe('kept'));
    const pulses = new Notices(await bus.subscribe('sluice:pulse'));
    await until(() => pulses.all.length > 0);
    await pulses.close();
    await bus.notify('sluice:pulse', 'by hand');
    for (let beat = 0; beat < 12; beat += 1) await nextMessage('sluice:listener.beat');
    expect({ generation: bus.generation, heard: keeps.all }).toEqual({ generation: 1, heard: [] });
    const again = new Notices(await bus.subscribe('sluice:pulse'));
    await until(() => again.all.length > 0);
  });

  test('one that the server refuses is refused alone: this database cannot spell it', async () => {
    const name = `latin_${Date.now()}`;
    const { rows } = await db.query<{ version: number }>(
      `select current_setting('server_version_num')::integer / 10000 as version`,
    );
    const provider = (rows[0]?.version ?? 0) >= 15 ? 'locale_provider libc' : '';
    await db.query(
      `create database ${name} encoding 'LATIN1' ${provider} lc_collate 'C' lc_ctype 'C' template template0`,
    );
    const url = new URL(db.connectionString);
    url.pathname = `/${name}`;
    const reportOf = (unspelled: string): Promise<unknown> =>
      nextMessage<{ where: string; channel: string }>(
        'sluice:background.failed',
        ({ where, channel }) => where === 'listen' && channel === unspelled,
      );
    const [upFront, subscribed] = [reportOf('東京'), reportOf('日本')];
    const bus = createNotifyBus({ connectionString: url.href, channels: ['up front', '東京'] });
    await upFront;
    const [spelled, refused, other] = await Promise.allSettled([
      bus.subscribe('café'),
      bus.subscribe('日本'),
      bus.subscribe('plain'),
    ]);
    await subscribed;
    expect([spelled.status, refused.status, other.status]).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(refused).toMatchObject({ reason: { message: expect.stringContaining('LATIN1') } });
    expect([...bus.channels].sort()).toEqual(['café', 'plain', 'up front']);
    if (spelled.status === 'fulfilled') {
      const heard = new Notices(spelled.value);
      await bus.notify('café', 'naïve');
      await until(() => heard.payloads[0] === 'naïve');
    }
    await bus.close();
    await db.query(`drop database ${name} with (force)`);
  });
});

describe('payloads', () => {
  test('pass through as they are: empty, of 7 999 bytes, and not JSON', async () => {
    await using bus = open();
    const heard = new Notices(await bus.subscribe('raw'));
    const payloads = ['', 'é'.repeat(3999), '{"broken', ' spaces \n kept '];
    for (const payload of payloads) await bus.notify('raw', payload);
    await bus.notify('raw');
    await until(() => heard.all.length === 5);
    expect(heard.payloads).toEqual([...payloads, '']);
  });

  test('over the limit are refused before anything is sent', async () => {
    await using bus = open();
    await expect(bus.notify('raw', 'x'.repeat(8000))).rejects.toMatchObject({ code: 'payload_too_large' });
    await expect(bus.notify('', 'x')).rejects.toMatchObject({ code: 'name_invalid' });
    await expect(bus.subscribe('a\0b')).rejects.toMatchObject({ code: 'name_invalid' });
  });

  test('with a schema they are decoded, in order; what does not fit is skipped and reported, and it goes on', async () => {
    await using bus = open();
    const schema = z.object({ id: z.int().transform((id) => id * 10) });
    const got: number[] = [];
    const subscription = await bus.subscribe('typed', { schema });
    const malformed = [1, 2].map(() =>
      nextMessage<{ channel: string; reason: string }>('sluice:bus.malformed'),
    );
    const reading = (async () => {
      for await (const notice of subscription) if (notice.kind === 'message') got.push(notice.data.id);
    })();
    await send('typed', '{"id":1}', 'not json', '{"id":"x"}', '{"id":2}');
    await until(() => got.length === 2);
    expect(got).toEqual([10, 20]);
    expect((await malformed[0])?.channel).toBe('typed');
    expect(bus.stats()).toMatchObject({ messages: 4, malformed: 2 });
    await subscription.close();
    await reading;
  });

  test('an asynchronous schema keeps their order, also when they are asked for at once', async () => {
    await using bus = open();
    const schema = z.number().refine(async (n) => {
      for (let turn = n; turn < 5; turn += 1) await new Promise((done) => setImmediate(done));
      return n !== 2;
    });
    const subscription = await bus.subscribe('slowly', { schema });
    const iterator = subscription[Symbol.asyncIterator]();
    const asked = [iterator.next(), iterator.next(), iterator.next()];
    await send('slowly', '1', '2', '3', '4');
    const values = (await Promise.all(asked)).map(({ value }) =>
      value?.kind === 'message' ? value.data : 0,
    );
    expect(values).toEqual([1, 3, 4]);
  });
});

describe('a slow reader', () => {
  test('I7: loses its oldest, is told how many at their place, and harms nobody else', async () => {
    await using bus = open();
    const slow = await bus.subscribe('busy', { buffer: 3 });
    const fast = new Notices(await bus.subscribe('busy', { buffer: 100 }));
    const lagged = nextMessage<{ channel: string; buffer: number }>('sluice:bus.lagged');
    await send('busy', ...Array.from({ length: 50 }, (_, n) => String(n + 1)));
    await until(() => fast.all.length === 50);
    expect(await lagged).toEqual({ channel: 'busy', buffer: 3 });
    const heard = new Notices(slow);
    await until(() => heard.all.length === 4);
    expect(heard.all[0]).toEqual({ kind: 'lagged', missed: 47 });
    expect(heard.payloads).toEqual(['48', '49', '50']);
    expect(fast.unmarked(50)).toEqual([]);
    expect(fast.all.every(({ kind }) => kind === 'message')).toBe(true);
    expect(bus.stats()).toMatchObject({ messages: 100, missed: 47 });
  });

  test('keeps 256 unless it is said otherwise', async () => {
    await using bus = open();
    const idle = await bus.subscribe('busy');
    const watching = new Notices(await bus.subscribe('busy', { buffer: 1000 }));
    await send('busy', ...Array.from({ length: 300 }, (_, n) => String(n + 1)));
    await until(() => watching.all.length === 300);
    expect(await idle[Symbol.asyncIterator]().next()).toEqual({
      done: false,
      value: { kind: 'lagged', missed: 44 },
    });
  });

  test.each([0, -1, 1.5, Number.NaN, 2 ** 21])('a buffer of %d is refused', async (buffer) => {
    await using bus = open();
    await expect(bus.subscribe('a', { buffer })).rejects.toThrow(RangeError);
    expect(bus.channels).toEqual([]);
  });
});

describe('errors', () => {
  test('a login that is refused is told to those who subscribe, with what to do', async () => {
    const url = new URL(db.connectionString);
    url.password = 'wrong';
    await using bus = createNotifyBus({ connectionString: url.href });
    await expect(bus.subscribe('a')).rejects.toMatchObject({ code: 'permission_denied' });
    url.password = new URL(db.connectionString).password;
    url.pathname = '/no_such_database';
    await using other = createNotifyBus({ connectionString: url.href });
    await expect(other.subscribe('a')).rejects.toThrow(/no_such_database/);
    expect(other.generation).toBe(0);
  });

  test('no database, and numbers out of range, are refused at once', () => {
    expect(() => createNotifyBus({ connectionString: undefined })).toThrow(TypeError);
    for (const options of [{ heartbeatMs: 0 }, { listenDeadlineMs: -1 }, { heartbeatMs: 9000 }]) {
      expect(() => open(options)).toThrow(RangeError);
    }
    expect(() => open({ channels: ['fine', ''] })).toThrow(SluiceError);
  });

  test('two addresses that lead to different databases are found out', async () => {
    const name = `elsewhere_${Date.now()}`;
    await db.query(`create database ${name}`);
    const url = new URL(db.connectionString);
    url.pathname = `/${name}`;
    const bus = open({ listenConnectionString: url.href, listenDeadlineMs: 100 });
    const problem = nextMessage<{ error: SluiceError }>(
      'sluice:background.failed',
      ({ error }) => error.code === 'listener_unavailable',
    );
    await bus.subscribe('a');
    expect((await problem).error.message).toMatch(/same database/);
    await expect(bus.subscribe('b')).rejects.toMatchObject({ code: 'listener_unavailable', retryable: true });
    expect(bus.stats().state).toBe('unavailable');
    await bus.close();
    await db.query(`drop database ${name} with (force)`);
  });
});

describe('within Sluice', () => {
  test('one connection listens for the bus, the tails and the relay; closing the bus leaves the rest', async () => {
    await using sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 600_000 });
    const heard = new Notices(await sluice.bus.subscribe('user'));
    await sluice.bus.notify('user', 'x');
    await until(() => heard.all.length === 1);
    expect(sluice.bus.generation).toBe((await sluice.health()).generation);
    await until(async () => (await listeningChannels()).length === 1);
    await sluice.bus.close();
    await heard.ended;
    await sluice.createStream('still');
    const events = sluice.stream('still').subscribe()[Symbol.asyncIterator]();
    const first = events.next();
    await sluice.stream('still').publish(1);
    expect((await first).value?.data).toBe(1);
    await events.return?.();
  });

  test('a trigger’s notification arrives with the process that sent it', async () => {
    await using sluice = await connect({ connectionString: db.connectionString });
    const subscription = await sluice.bus.subscribe('changes');
    const client = new Client({ connectionString: db.connectionString });
    await client.connect();
    const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
    await client.query('begin');
    await client.query(`notify changes, 'rolled back'`);
    await client.query('rollback');
    await client.query(`notify changes, 'committed'`);
    expect(await subscription[Symbol.asyncIterator]().next()).toEqual({
      done: false,
      value: { kind: 'message', payload: 'committed', processId: rows[0]?.pid },
    });
    await client.end();
  });
});
