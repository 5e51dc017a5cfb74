// Guards how other processes learn that a stream has gone on: with the commit where that holds nobody up, by a statement
// after it where somebody else is doing that, and in either case (I4, I7).
import { Pool } from 'pg';
import { connect, type Sluice } from 'sluice';
import { expect, onTestFinished, test } from 'vitest';
import { namesFor } from '../../src/db/names.ts';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { publish } from '../support/log-sql.ts';

const { readersChannel, ringKey } = namesFor('sluice');
const db = useDatabase();

interface Process {
  readonly sluice: Sluice;
  /** How many statements of its own it has sent to tell readers. */
  readonly statements: () => number;
}

/** A process that has told nobody anything yet. */
const open = async (relay: boolean): Promise<Process> => {
  const pool = new Pool({ connectionString: db.connectionString, max: 4 });
  let statements = 0;
  const counted = {
    connect: async () => pool.connect(),
    query: async (config: { readonly text: string; readonly values?: unknown[] }) => {
      if (config.text.startsWith('select pg_notify(')) statements += 1;
      return pool.query(config);
    },
  };
  const { connectionString } = db;
  const sluice = await connect({ pool: counted, connectionString, relay, fallbackPollMs: 600_000 });
  onTestFinished(async () => {
    await sluice.close();
    await pool.end();
  });
  return { sluice, statements: () => statements };
};

const hearReaders = async (): Promise<(string | undefined)[]> => {
  const listener = await openClient(db.connectionString);
  onTestFinished(() => listener.end());
  const heard: (string | undefined)[] = [];
  listener.on('notification', ({ payload }) => heard.push(payload));
  await listener.query(`listen ${readersChannel}`);
  return heard;
};

const incarnationOf = async (stream: string): Promise<string> => {
  const { rows } = await db.query<{ id: string }>('select id from sluice.streams where name = $1', [stream]);
  return rows[0]?.id ?? '';
};

test('I4: an append of a quiet process tells readers with its commit', async () => {
  const { sluice, statements } = await open(false);
  await sluice.createStream('appended');
  const heard = await hearReaders();
  await sluice.stream('appended').appendMany([{ data: 1 }, { data: 2 }]);
  await until(() => heard.length > 0);
  expect(heard).toEqual([`${await incarnationOf('appended')}:2`]);
  expect(statements()).toBe(0);
});

test('I4: so does a pass of the relay, for each stream that it moved', async () => {
  const { sluice, statements } = await open(true);
  for (const name of ['one', 'two']) await sluice.createStream(name);
  const heard = await hearReaders();
  const told = nextMessage<{ streams: number }>('sluice:readers.notified');
  await db.query(`begin; select sluice.publish('one', '1'); select sluice.publish('two', '2'); commit`);
  await until(() => heard.length > 0);
  const named = (heard[0] ?? '').split(',').toSorted();
  const ids = await Promise.all(['one', 'two'].map(incarnationOf));
  expect(named).toEqual(ids.map((id) => `${id}:1`).toSorted());
  expect((await told).streams).toBe(2);
  expect(statements()).toBe(0);
});

test('I4: a pass that moved more streams than a notification names tells readers after its commit', async () => {
  const names = Array.from({ length: 101 }, (_, n) => `many ${n}`);
  for (const name of names) await publish(db, name, 1);
  const heard = await hearReaders();
  const relaying = await open(true);
  await until(() => heard.flatMap((payload) => payload?.split(',') ?? []).length === names.length);
  expect(relaying.statements()).toBe(heard.length);
});

test('I7, interleaving 32: while another commit is telling readers, an append waits for nothing and tells them after its own', async () => {
  const { sluice, statements } = await open(false);
  await sluice.createStream('beside another');
  const heard = await hearReaders();
  await using other = await openClient(db.connectionString);
  await other.query('begin');
  await other.query('select pg_advisory_xact_lock($1)', [ringKey]);
  const told = nextMessage('sluice:readers.notified');
  await sluice.stream('beside another').append(1);
  await told;
  await until(() => heard.length > 0);
  expect(heard).toEqual([`${await incarnationOf('beside another')}:1`]);
  expect(statements()).toBe(1);
});
