// Guards least privilege: a role that may do one thing can do it through SQL and through the library, with `check`, and
// can do nothing else; nobody else can do anything. What was granted survives an upgrade that needs more.
import { connect, migrate, type ConnectOptions, type Sluice } from 'sluice';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage } from '../support/diagnostics.ts';
import { logOf, passAll } from '../support/log-sql.ts';

const db = useDatabase();

let roles = 0;
let role: string;
let url: string;
beforeEach(async () => {
  const { pathname, href } = new URL(db.connectionString);
  role = `Role "${(roles += 1)}" of ${pathname.slice(1)}`;
  await db.query(`create role ${quoted()} login password 'its own'`);
  const own = new URL(href);
  [own.username, own.password] = [encodeURIComponent(role), 'its own'];
  url = own.href;
});
afterEach(async () => {
  await db.query(`drop owned by ${quoted()}; drop role ${quoted()}`);
});
const quoted = (): string => `"${role.replaceAll('"', '""')}"`;
const grant = (right: string): Promise<unknown> =>
  db.query('select sluice.grant_right($1, $2)', [role, right]);
const open = (options: ConnectOptions = {}): Promise<Sluice> =>
  connect({ connectionString: url, fallbackPollMs: 50, ...options });

/** Whether each statement is allowed; it is rolled back. */
const allowed = async (statements: Readonly<Record<string, string>>): Promise<string[]> => {
  await using client = await openClient(url);
  const able: string[] = [];
  for (const [name, statement] of Object.entries(statements)) {
    await client.query('begin');
    const refused = await client.query(statement).then(
      () => undefined,
      (error: { code: string }) => error.code,
    );
    await client.query('rollback');
    if (refused === undefined) able.push(name);
    else expect([name, refused]).toEqual([name, '42501']);
  }
  return able;
};

const everything = {
  publish: `select sluice.publish('rights', '1')`,
  'publish many': `select sluice.publish_many('rights', '1')`,
  broadcast: `select sluice.broadcast('rights', '1')`,
  append: `select sluice.append('rights', '1')`,
  'append batch': `select sluice.append_batch('{rights}', '{1}', '1', '{7}')`,
  'read events': 'select * from sluice.events',
  'read streams': 'select * from sluice.streams',
  'read the outbox': 'select * from sluice.outbox',
  'read a slot': 'select * from sluice.outbox_0',
  'read what is undeliverable': 'select * from sluice.undeliverable',
  'read ephemerals': 'select * from sluice.ephemerals',
  'forge an ephemeral': `insert into sluice.ephemerals (slot, stream, data) values (0, 'rights', '1')`,
  'read who is present': 'select * from sluice.presence, sluice.presence_holders',
  'be present': `select sluice.enter_presence(gen_random_uuid(), 1, array[gen_random_uuid()], '{rights}', '{me}', '{1}')`,
  'stay present': 'select sluice.renew_presence(gen_random_uuid(), 1)',
  leave: `select sluice.leave_presence(gen_random_uuid(), '{}')`,
  'forge presence': `insert into sluice.presence values ('rights', 'me', gen_random_uuid(), gen_random_uuid(), '1')`,
  'announce presence': `select sluice.announce_presence('{rights}', '{me}')`,
  'read the history of figures': 'select * from sluice.stats_history',
  'keep figures': `select sluice.record_stats(gen_random_uuid(), 1, 'me', '[]', 1, 0, 1)`,
  'expire figures': 'select sluice.expire_stats()',
  'change figures': 'delete from sluice.stats_history',
  'write events': `insert into sluice.events (stream_id, "offset", at, tag, size, data) values (-1, 1, now(), 0, 1, '1')`,
  'write the outbox': `insert into sluice.outbox (slot, stream, data) values (0, 'rights', '1')`,
  'change streams': 'update sluice.streams set trimmed_to = 0',
  'empty a slot': 'truncate sluice.outbox_2',
  'skip outbox ids': `select nextval('sluice.outbox_id')`,
  'create a stream': `select sluice.create_stream('another')`,
  'close a stream': `select sluice.close_stream('rights')`,
  'delete a stream': `select sluice.delete_stream('rights')`,
  'configure a stream': `select sluice.configure_stream('rights', '{}')`,
  'trim a stream': `select * from sluice.trim_stream('rights', 1)`,
  'drop what is undeliverable': 'select sluice.drop_undeliverable()',
  'forget what is undeliverable': 'delete from sluice.undeliverable',
  'read what is delayed': 'select * from sluice.delayed',
  'read keys': 'select * from sluice.idempotency_keys',
  'move events': 'select * from sluice.pass()',
  'tidy up': 'select sluice.rotate_outbox()',
  'make a group': `select sluice.ensure_group(-1, 'mine', 0, null)`,
  'claim in a group': `explain select sluice.claim(0, gen_random_uuid(), gen_random_uuid(), 1, 1, 1000, 1)`,
  'settle a lease': `explain select sluice.settle(gen_random_uuid())`,
  'acknowledge in a transaction': `explain select sluice.ack_events(gen_random_uuid(), '{[1,2)}')`,
  'delete a group': `select sluice.delete_group('rights', 'mine')`,
  'read groups':
    'select * from sluice.groups, sluice.group_states, sluice.pieces, sluice.leases, sluice.members, sluice.dead_letters, sluice.group_stats(0)',
  'forge a lease': `insert into sluice.leases values (gen_random_uuid(), 0, 0, gen_random_uuid(), '{}', 1, 0, false, null, now(), now())`,
  'skip what failed': 'delete from sluice.pieces',
  'take leases back': 'select sluice.reap_leases(0, 1)',
  'create here': 'create table sluice.mine (id integer)',
};

describe('a role can do what its right says, and nothing else', () => {
  const read = ['read events', 'read streams'];
  const figures = 'read the history of figures';
  const connected = [
    'read ephemerals',
    'read who is present',
    'be present',
    'stay present',
    'leave',
    figures,
    'keep figures',
    'expire figures',
  ];
  const groups = [
    'make a group',
    'claim in a group',
    'settle a lease',
    'acknowledge in a transaction',
    'delete a group',
    'read groups',
  ];
  const manage = [
    ...read,
    'read groups',
    figures,
    'read what is undeliverable',
    'create a stream',
    'close a stream',
    'delete a stream',
    'configure a stream',
    'trim a stream',
    'drop what is undeliverable',
  ];
  test.for([
    ['publish', ['publish', 'publish many', 'broadcast']],
    ['append', ['append', 'append batch']],
    ['read', [...read, ...connected]],
    ['consume', [...read, ...connected, ...groups]],
    ['manage', manage],
    ['relay', Object.keys(everything).filter((name) => name !== 'create here')],
  ] as const)('%s', async ([right, able]) => {
    await db.query(`select sluice.append('rights', '0')`);
    expect(await allowed(everything)).toEqual([]);
    await grant(right);
    expect((await allowed(everything)).sort()).toEqual([...able].sort());
    await db.query('select sluice.revoke_rights($1)', [role]);
    expect(await allowed(everything)).toEqual([]);
  });

  test('every function that runs with its owner’s rights belongs to a right', async () => {
    const { rows } = await db.query(
      `select p.proname from pg_proc p
       where p.pronamespace = 'sluice'::regnamespace and p.prosecdef and not exists (
         select from sluice.rights() r
         where r.may <> 'relay' and r.statement like '%' || p.oid::regprocedure || '%')`,
    );
    expect(rows).toEqual([]);
  });

  test('a right or role that does not exist is named, with the ones there are', async () => {
    await expect(grant('write')).rejects.toMatchObject({
      message: "there is no right 'write'",
      hint: expect.stringMatching(/'append', 'consume', 'manage', 'publish', 'read', 'relay'/),
    });
    await expect(db.query(`select sluice.grant_right('no one', 'read')`)).rejects.toThrow(
      /"no one" does not exist/,
    );
  });
});

describe('through the library', () => {
  /** Everything that fails in the background until the given number of polls has gone round. */
  const polls = async (count: number): Promise<void> => {
    for (let poll = 0; poll < count; poll += 1) await nextMessage('sluice:poll.finished');
  };

  test('who may publish does, with tx and without, and its background work fails nowhere', async () => {
    await grant('publish');
    const failures: unknown[] = [];
    const failed = (_: object, message: string): number => failures.push(message);
    const logger = { debug: failed, info: failed, warn: failed, error: failed };
    await using sluice = await open({ logger, relay: false, heartbeatMs: 20 });
    const stream = sluice.stream('published');
    await using client = await openClient(url);
    await client.query('begin');
    await stream.publish(1, { tx: client });
    await stream.publishMany([{ data: 2 }, { data: 3 }], { tx: client });
    await client.query('commit');
    await stream.publish(4);
    await expect(stream.append(5)).rejects.toMatchObject({ code: 'permission_denied' });
    await expect(stream.read()).rejects.toMatchObject({ code: 'permission_denied' });
    await expect(sluice.createStream('no')).rejects.toMatchObject({ code: 'permission_denied' });
    await polls(2);
    expect(failures).toEqual([
      "this user may not move published events; another process must (grant_right 'relay')",
    ]);
    await passAll(db);
    expect(await logOf(db, 'published')).toEqual(['1', '2', '3', '4']);
  });

  test.each(['read', 'consume'])('who may %s reads and subscribes, live too', async (right) => {
    await grant(right);
    const name = `for ${right}`;
    await db.query('select sluice.append($1, $2)', [name, '1']);
    await using sluice = await open();
    const stream = sluice.stream<number>(name);
    const seen: number[] = [];
    const subscription = stream.subscribe();
    await subscription.ready;
    await db.query('select sluice.append($1, $2)', [name, '2']);
    for await (const { data } of subscription) if (seen.push(data) === 2) break;
    expect(seen).toEqual([1, 2]);
    expect((await stream.info())?.head).toBe(2n);
    await polls(1);
    await expect(stream.append(3)).rejects.toMatchObject({ code: 'permission_denied' });
    await expect(stream.publish(3)).rejects.toMatchObject({ code: 'permission_denied' });
  });

  test('who may manage drops what is undeliverable, and who may only read does not', async () => {
    await grant('read');
    await using sluice = await open();
    await expect(sluice.dropUndeliverable()).rejects.toMatchObject({ code: 'permission_denied' });
    await expect(sluice.dropUndeliverable({ ids: ['1'] })).rejects.toMatchObject({
      code: 'permission_denied',
    });
    await grant('manage');
    expect(await sluice.dropUndeliverable({ ids: ['1'] })).toBe(0);
    expect(await sluice.dropUndeliverable()).toBe(0);
  });

  test('who may consume does so', async () => {
    await db.query(`select sluice.append('consumed', '1')`);
    await grant('consume');
    await using sluice = await open();
    const group = sluice.stream('consumed').group('g');
    const ending = new AbortController();
    await group.consume(async () => Promise.resolve(ending.abort()), { signal: ending.signal });
    await group.seek('start');
    const lease = await group.claim();
    await lease?.ack({ failed: [{ offset: 1n, error: 'no' }] });
    expect(await group.stats()).toMatchObject({ retries: 1, members: 0 });
    expect(await group.delete()).toBe(true);
  });

  test('who may relay moves events as the owner would', async () => {
    await grant('relay');
    await using sluice = await open({ fallbackPollMs: 600_000 });
    const stream = sluice.stream<number>('relayed');
    await sluice.createStream('relayed');
    const subscription = stream.subscribe();
    await subscription.ready;
    await stream.publish(1);
    for await (const { offset } of subscription) if (offset === 1n) break;
    await db.query('select sluice.rotate_outbox()');
    expect(await sluice.deleteStream('relayed')).toBe(true);
  });
});

describe('an upgrade', () => {
  /** As an older package left it: publish takes other parameters, and was granted to whoever has it now. */
  const age = async (): Promise<void> => {
    const held = (await allowed(everything)).includes('publish');
    await db.query(
      `drop function sluice.publish;
       create function sluice.publish(p_stream text, p_data json) returns bigint language sql as 'select 1::bigint';
       revoke execute on function sluice.publish from public;
       update sluice.migrations set functions_hash = 'older'`,
    );
    if (held) await db.query(`grant execute on function sluice.publish to ${quoted()}`);
  };
  const upgrade = async (): Promise<void> => {
    await age();
    await migrate({ connectionString: db.connectionString });
    await db.query('drop function sluice.publish(text, json)');
  };
  const rights = async (): Promise<string[]> => {
    const { rows } = await db.query<{ may: string }>(
      `select may from sluice.rights($1) group by may having bool_and(held) order by may`,
      [role],
    );
    return rows.map(({ may }) => may);
  };

  test('keeps what was granted, although functions were replaced, and grants nothing else', async () => {
    await grant('publish');
    await grant('read');
    expect(await rights()).toEqual(['publish', 'read']);
    await upgrade();
    expect(await rights()).toEqual(['publish', 'read']);
    expect((await allowed(everything)).toSorted()).toEqual(
      [
        'publish',
        'publish many',
        'broadcast',
        'read events',
        'read streams',
        'read ephemerals',
        'read who is present',
        'be present',
        'stay present',
        'leave',
        'read the history of figures',
        'keep figures',
        'expire figures',
      ].toSorted(),
    );
  });

  test('keeps what was granted to everybody', async () => {
    const applyAgain = async (): Promise<void> => {
      await db.query(`update sluice.migrations set functions_hash = 'older'`);
      await migrate({ connectionString: db.connectionString });
    };
    await db.query(`select sluice.grant_right('public', 'publish')`);
    await applyAgain();
    expect(await allowed(everything)).toEqual(['publish', 'publish many', 'broadcast']);
    await db.query(`select sluice.revoke_rights('public')`);
    await applyAgain();
    expect(await allowed(everything)).toEqual([]);
  });

  test('leaves alone who holds a part of a right only', async () => {
    await db.query(
      `grant usage on schema sluice to ${quoted()}; grant execute on function sluice.publish to ${quoted()}`,
    );
    expect(await allowed(everything)).toEqual(['publish']);
    await upgrade();
    expect(await allowed(everything)).toEqual([]);
  });

  test('grants nobody a right of which a part was missing', async () => {
    await grant('read');
    await db.query(`drop function sluice.publish; update sluice.migrations set functions_hash = 'older'`);
    expect(await rights()).toEqual(['read']);
    await migrate({ connectionString: db.connectionString });
    expect(await rights()).toEqual(['read']);
  });

  test('is for the owner', async () => {
    await grant('relay');
    await db.query(`update sluice.migrations set functions_hash = 'older'`);
    await expect(migrate({ connectionString: url })).rejects.toMatchObject({ code: 'permission_denied' });
    await migrate({ connectionString: db.connectionString });
  });
});
