// Guards catch-up reads from a real hot standby (readConnectionString): whatever the standby is (behind, stopped, in the
// way of its own replay, promoted, somebody else's), readers get every event once and in order (I2) and hear of gaps,
// resets and deletions from the primary alone (I8); and what is wrong with it is reported.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { connect, type ConnectOptions, type Sluice } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { Following } from '../support/following.ts';
import { ServerPair } from '../support/server-pair.ts';

let pair: ServerPair;
beforeAll(async () => {
  pair = await ServerPair.start();
});
afterAll(() => pair[Symbol.asyncDispose]());

/** With so small a window that whoever is behind at all catches up from a server. */
const open = (options: ConnectOptions = {}): Promise<Sluice> =>
  connect({
    connectionString: pair.connectionString,
    readConnectionString: pair.standbyConnectionString,
    windowEvents: 1,
    relay: false,
    ...options,
  });

let names = 0;
/** A stream of its own that the standby has. */
const streamOf = async (sluice: Sluice, count: number): Promise<string> => {
  const name = `replicated ${(names += 1)}`;
  await sluice.createStream(name);
  await write(sluice, name, count);
  await pair.caughtUp();
  return name;
};
const write = async (sluice: Sluice, name: string, count: number): Promise<void> => {
  await sluice.stream(name).appendMany(Array.from({ length: count }, () => ({ data: 'x' })));
};
const range = (first: number, last: number): string[] =>
  Array.from({ length: last - first + 1 }, (_, index) => `${first + index} x`);

/** What the standby is behind with, it stays behind with until the returned function is called. */
const pauseReplay = async (): Promise<() => Promise<void>> => {
  await pair.standby.query('select pg_wal_replay_pause()');
  await until(async () => {
    const { rows } = await pair.standby.query<{ state: string }>(
      'select pg_get_wal_replay_pause_state() as state',
    );
    return rows[0]!.state === 'paused';
  });
  return async () => {
    await pair.standby.query('select pg_wal_replay_resume()');
    await pair.caughtUp();
  };
};

interface Read {
  readonly offset: bigint;
  readonly used: boolean;
}
const usedRead = (used: boolean): Promise<Read> =>
  nextMessage<Read>('sluice:replica.read', (read) => read.used === used);
const failure = (message: RegExp): Promise<unknown> =>
  nextMessage<{ where: string; error: Error }>(
    'sluice:background.failed',
    ({ where, error }) => where === 'replica read' && message.test(error.message),
  );

/** Up to and with `offset` everything is gone on the primary, whose readers are told so. */
const trim = async (name: string, offset: number): Promise<void> => {
  await pair.primary.query(
    `with e as (
       delete from sluice.events e using sluice.streams s
       where s.name = $1 and e.stream_id = s.id and e."offset" <= $2 returning e.*
     )
     update sluice.streams s set trimmed_to = e."offset", trimmed_tag = e.tag from e where s.id = e.stream_id and e."offset" = $2`,
    [name, offset],
  );
};

describe('a standby that is up to date', () => {
  test('serves what readers catch up with, and the primary what is live', async () => {
    await using sluice = await open();
    const name = await streamOf(sluice, 2500);
    const reads: boolean[] = [];
    const note = (message: unknown): number => reads.push((message as Read).used);
    subscribe('sluice:replica.read', note);
    await using following = new Following(sluice, name, 'start');
    expect(await following.next(2500)).toEqual(range(1, 2500));
    unsubscribe('sluice:replica.read', note);
    expect(reads).toEqual([true, true, true]);
    await write(sluice, name, 1);
    expect(await following.next(1)).toEqual(['2501 x']);
  });

  test('serves a role that may only read', async () => {
    await using owner = await open();
    const name = await streamOf(owner, 1500);
    const role = 'replica_reader';
    await pair.primary.query(
      `create role ${role} login password 'its own'; select sluice.grant_right('${role}', 'read')`,
    );
    await pair.caughtUp();
    const as = (connectionString: string): string => {
      const url = new URL(connectionString);
      [url.username, url.password] = [role, 'its own'];
      return url.href;
    };
    const used = usedRead(true);
    await using sluice = await open({
      connectionString: as(pair.connectionString),
      readConnectionString: as(pair.standbyConnectionString),
    });
    await using following = new Following(sluice, name, 'start');
    expect(await following.next(1500)).toEqual(range(1, 1500));
    await used;
  });
});

describe('a standby that is behind', () => {
  test('I2: serves what it has; the rest comes from the primary, once and in order, and goes on live', async () => {
    await using sluice = await open();
    const name = await streamOf(sluice, 1500);
    const resume = await pauseReplay();
    try {
      await write(sluice, name, 1500);
      const [served, refused] = [usedRead(true), usedRead(false)];
      await using following = new Following(sluice, name, 'start');
      expect(await following.next(3000)).toEqual(range(1, 3000));
      await Promise.all([served, refused]);
      const live = following.next(1);
      await write(sluice, name, 1);
      expect(await live).toEqual(['3001 x']);
    } finally {
      await resume();
    }
  });

  test('I8: knows nothing of the stream, or of the position: no reset, no gap, no end', async () => {
    await using sluice = await open();
    const resume = await pauseReplay();
    try {
      const name = `unknown ${(names += 1)}`;
      await sluice.createStream(name);
      await write(sluice, name, 1200);
      const refused = usedRead(false);
      await using following = new Following(sluice, name, 'start');
      expect(await following.next(1200)).toEqual(range(1, 1200));
      await using late = new Following(sluice, name, 700n);
      expect(await late.next(500)).toEqual(range(701, 1200));
      await refused;
    } finally {
      await resume();
    }
  });

  test('I8: does not serve what the primary is known to have trimmed', async () => {
    await using sluice = await open();
    const name = await streamOf(sluice, 2000);
    await using slow = new Following(sluice, name, 'start');
    expect(await slow.next(1)).toEqual(['1 x']);
    const resume = await pauseReplay();
    try {
      await trim(name, 1990);
      const woken = nextMessage<{ stream: string }>('sluice:tail.woken', ({ stream }) => stream === name);
      await using other = await open();
      await write(other, name, 1);
      await woken;
      await expect(slow.next(2000)).rejects.toMatchObject({ code: 'cursor_expired', oldest: 1991n });
      await using late = new Following(sluice, name, 5n);
      await expect(late.next(1)).rejects.toMatchObject({ code: 'cursor_expired', oldest: 1991n });
    } finally {
      await resume();
    }
  });

  test('I8: has not heard that the stream was deleted: its readers end all the same', async () => {
    await using sluice = await open();
    const name = await streamOf(sluice, 2000);
    await using slow = new Following(sluice, name, 'start');
    await slow.next(1);
    const resume = await pauseReplay();
    try {
      const closed = nextMessage<{ stream: string }>('sluice:tail.closed', ({ stream }) => stream === name);
      expect(await sluice.deleteStream(name)).toBe(true);
      await closed;
      await expect(slow.next(2000)).rejects.toMatchObject({ code: 'stream_not_found' });
    } finally {
      await resume();
    }
  });
});

describe('a standby that fails', () => {
  /** Runs `work` while a read of events waits on the standby, for a lock that was replayed there. */
  const whileReading = async (work: () => Promise<void>): Promise<void> => {
    await using sluice = await open();
    const name = await streamOf(sluice, 1200);
    await using following = new Following(sluice, name, 'start');
    await following.ready;
    await using holder = await openClient(pair.connectionString);
    await holder.query('begin; lock table sluice.events in access exclusive mode');
    await pair.caughtUp();
    const reading = following.next(1200);
    await until(async () => {
      const { rowCount } = await pair.standby.query(
        `select from pg_stat_activity where wait_event_type = 'Lock' and application_name = 'sluice'`,
      );
      return rowCount === 1;
    });
    await work();
    await holder.query('rollback');
    expect(await reading).toEqual(range(1, 1200));
    await pair.caughtUp();
  };

  test('I2: cancels a read that is in the way of its replay: the primary answers', () =>
    whileReading(async () => {
      const failed = failure(/conflict with recovery/);
      await using other = await openClient(pair.connectionString);
      await other.query('begin; lock table sluice.streams in access exclusive mode');
      await pair.flush();
      await failed;
      await other.query('rollback');
    }));

  test('I2: is stopped in the middle of a read, and is read again when it is back', async () => {
    await whileReading(async () => {
      const failed = failure(/./);
      await pair.stopStandby();
      await failed;
      await pair.startStandby();
    });
    await using sluice = await open();
    const name = await streamOf(sluice, 1200);
    const used = usedRead(true);
    await using following = new Following(sluice, name, 'start');
    expect(await following.next(1200)).toEqual(range(1, 1200));
    await used;
  });

  test('is not there at all: connecting and reading work', async () => {
    const nowhere = new URL(pair.standbyConnectionString);
    nowhere.port = '1';
    await using sluice = await open({ readConnectionString: nowhere.href });
    const name = await streamOf(sluice, 1200);
    const failed = failure(/ECONNREFUSED/);
    await using following = new Following(sluice, name, 'start');
    expect(await following.next(1200)).toEqual(range(1, 1200));
    await failed;
  });

  test('is the primary itself, or another database of the standby: said, and not used', async () => {
    await pair.primary.query('create database other');
    await pair.caughtUp();
    const other = new URL(pair.standbyConnectionString);
    other.pathname = '/other';
    for (const [url, message] of [
      [pair.connectionString, /is no standby/],
      [other.href, /relation .* does not exist|standby of another database/],
    ] as const) {
      await using sluice = await open({ readConnectionString: url });
      const name = await streamOf(sluice, 1200);
      const failed = failure(message);
      await using following = new Following(sluice, name, 'start');
      expect(await following.next(1200)).toEqual(range(1, 1200));
      await failed;
    }
  });

  // The last: it is no standby any more.
  test('I2: was promoted away and has gone on by itself: said, and not used', async () => {
    await using sluice = await open();
    const name = await streamOf(sluice, 1200);
    await pair.promote();
    await pair.standby.query('select sluice.append($1, $2)', [name, '"theirs"']);
    await write(sluice, name, 300);
    const failed = failure(/no standby \(any more\)/);
    await using following = new Following(sluice, name, 'start');
    expect(await following.next(1500)).toEqual(range(1, 1500));
    await failed;
  });
});
