// Guards that the schema may have any name that PostgreSQL takes, however hard it is to quote, and that installations
// side by side in one database share nothing: no table, no lock, no notification.
import { connect, migrate, type Sluice } from 'sluice';
import { describe, expect, test } from 'vitest';
import { namesFor } from '../../src/db/names.ts';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage } from '../support/diagnostics.ts';

const db = useDatabase({ migrated: false });

const open = async (schema: string): Promise<Sluice> => {
  await migrate({ connectionString: db.connectionString, schema });
  return connect({ connectionString: db.connectionString, schema });
};

describe('any name works, from a transaction to a subscriber', () => {
  test.each([
    'UPPER Case',
    'with "double" quotes',
    "with 'single' quotes",
    'with \\ backslashes \\\\',
    '$$',
    '$sluice$ and $sluice_$',
    'dollar$1 $2',
    '🧾 журнал',
    'x'.repeat(63),
    'é'.repeat(31),
    ':"schema" :\'schema\'',
    ':asleep_key',
    ":'relay_channel'",
    'select',
    '%I %s %%',
    'a.b',
    ' ',
    "E'\\''; drop schema public; --",
  ])('%s', async (schema) => {
    await using sluice = await open(schema);
    await sluice.createStream('orders');
    const stream = sluice.stream('orders');
    const events = stream.subscribe()[Symbol.asyncIterator]();
    await using client = await openClient(db.connectionString);
    await client.query('begin');
    await stream.publish('published', { tx: client });
    await client.query('commit');
    expect((await events.next()).value).toMatchObject({ offset: 1n, data: 'published' });
    await stream.append('appended');
    expect((await events.next()).value).toMatchObject({ offset: 2n, data: 'appended' });
    const named = schema.replaceAll('"', '""');
    await client.query(`select "${named}".append('orders', '"by SQL"')`);
    expect((await events.next()).value).toMatchObject({ offset: 3n, data: 'by SQL' });
    await client.query(`select "${named}".rotate_outbox()`);
    await client.query(`select "${named}".publish('orders', '"after a rotation"')`);
    expect((await events.next()).value).toMatchObject({ offset: 4n, data: 'after a rotation' });
  });

  test.each(['', 'x'.repeat(64), 'é'.repeat(32), 'pg_mine', 'line\nend', 'nul\0', 'half \ud800'])(
    '%j is refused before anything is sent',
    async (schema) => {
      await expect(connect({ connectionString: db.connectionString, schema })).rejects.toThrow(RangeError);
      await expect(migrate({ connectionString: db.connectionString, schema })).rejects.toThrow(
        /schema name .* cannot be used/,
      );
    },
  );
});

describe('two installations in one database', () => {
  test('share no advisory key and no channel', () => {
    const keys = ['sluice', 'Sluice', 'sluice '].map((schema) => {
      const { asleepKey, roleKey, createKey, migrateKey, relayChannel, readersChannel } = namesFor(schema);
      return [asleepKey, roleKey, migrateKey, BigInt(createKey), relayChannel, readersChannel];
    });
    expect(new Set(keys.flat()).size).toBe(keys.flat().length);
  });

  test('hear nothing of each other, and each has its own relay', async () => {
    const roles: Promise<unknown>[] = [];
    for (let n = 0; n < 2; n += 1) {
      let seen = 0;
      roles.push(nextMessage<{ held: boolean }>('sluice:relay.role', ({ held }) => held && (seen += 1) > n));
    }
    await using one = await open('one');
    await using two = await open('two');
    await Promise.all(roles);
    const { relayChannel, readersChannel } = namesFor('two');
    await using listener = await openClient(db.connectionString);
    const heard: string[] = [];
    listener.on('notification', ({ payload }) => heard.push(payload ?? ''));
    await listener.query(`listen ${relayChannel}; listen ${readersChannel}`);

    await Promise.all([one.createStream('same'), two.createStream('same')]);
    const events = one.stream('same').subscribe()[Symbol.asyncIterator]();
    await one.stream('same').publish('mine');
    expect((await events.next()).value).toMatchObject({ data: 'mine' });
    await one.stream('same').append('mine too');
    expect((await events.next()).value).toMatchObject({ data: 'mine too' });

    const marked = new Promise((resolve) => listener.once('notification', resolve));
    await db.query('select pg_notify($1, $2)', [readersChannel, 'marker']);
    await marked;
    expect(heard).toEqual(['marker']);
    expect(await two.stream('same').info()).toMatchObject({ head: 0n });
  });
});
