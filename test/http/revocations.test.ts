// Guards revocation: on every process live connections end and what was shown is refused, also by a process that was not
// there, and nobody gets in while it is not known what was revoked.
import { connect, type Sluice } from 'sluice';
import { createTokens, type Grant, type HandlerOptions, type TokenRequest } from 'sluice/http';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { Revocations } from '../../src/http/revocations.ts';
import { deferred } from '../../src/util/deferred.ts';
import { silentLogger } from '../../src/util/logger.ts';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { anyone, serve, type Serving } from '../support/serve.ts';
import { openSse, type SseClient } from '../support/sse.ts';
import { newSecret } from '../support/tokens.ts';

const db = useDatabase();
const tokens = createTokens({ secret: newSecret() });
let here: Sluice;
let there: Sluice;
let revocations: string;
let lists = 0;

beforeAll(async () => {
  here = await connect({ connectionString: db.connectionString });
  there = await connect({ connectionString: db.connectionString });
  await here.stream('orders').append(1);
});
afterAll(() => Promise.all([here.close(), there.close()]));
beforeEach(() => {
  revocations = `revocations ${(lists += 1)}`;
});

const open = (sluice: Sluice, more: Partial<HandlerOptions> = {}): Promise<Serving> =>
  serve(sluice, { authorize: tokens.authorize, revocations, ...more });
const issue = (principal: string, more: Partial<TokenRequest> = {}): Promise<string> =>
  tokens.issue({ principal, streams: ['orders'], expiresInMs: 600_000, ...more });
const withBearer = (token: string): { headers: Record<string, string> } => ({
  headers: { authorization: `Bearer ${token}` },
});
const connected = async (serving: Serving, token: string): Promise<SseClient> => {
  const client = await openSse(serving.url('orders', 'after=start'), withBearer(token));
  await client.received(1);
  return client;
};
const statusOf = async (serving: Serving, token: string): Promise<number> => {
  const response = await fetch(serving.url('orders'), withBearer(token));
  await response.body?.cancel();
  return response.status;
};

describe('revoke', () => {
  test('a principal: its connections end on every process, others stay, and its tokens are refused', async () => {
    await using first = await open(here);
    await using second = await open(there);
    const [ann, ben] = [await issue('ann'), await issue('ben')];
    const gone = await Promise.all([
      connected(first, ann),
      connected(second, ann),
      connected(second, await issue('ann')),
    ]);
    const stays = await Promise.all([connected(first, ben), connected(second, ben)]);
    const closed = nextMessage<{ reason: string }>('sluice:sse.closed', ({ reason }) => reason === 'revoked');
    await first.handler.revoke({ principal: 'ann' });
    await closed;
    await Promise.all(gone.map((client) => client.ended()));
    expect(gone.map(({ over }) => over)).toEqual(['end', 'end', 'end']);
    expect([await statusOf(first, ann), await statusOf(second, ann)]).toEqual([401, 401]);
    const { offset } = await here.stream('orders').append(2);
    await Promise.all(stays.map((client) => client.until(({ offsets }) => offsets.includes(Number(offset)))));
    for (const client of stays) client.close();
  });

  test('what is issued afterwards is good again', async () => {
    await using serving = await open(here);
    await serving.handler.revoke({ principal: 'ann', issuedBefore: new Date(Date.now() - 60_000) });
    expect(await statusOf(serving, await issue('ann'))).toBe(200);
    const before = await issue('ann');
    await serving.handler.revoke({ principal: 'ann' });
    expect(await statusOf(serving, before)).toBe(401);
    let after = before;
    await until(async () => {
      after = await issue('ann'); // in a later millisecond
      return (await statusOf(serving, after)) === 200;
    });
    expect(await statusOf(serving, before)).toBe(401);
  });

  test('one token by its id: the same principal keeps the others', async () => {
    await using serving = await open(here);
    const [lost, kept] = [await issue('ann', { id: 'lost' }), await issue('ann')];
    using gone = await connected(serving, lost);
    using stays = await connected(serving, kept);
    await serving.handler.revoke({ tokenId: 'lost' });
    await gone.ended();
    expect([await statusOf(serving, lost), await statusOf(serving, kept), stays.over]).toEqual([
      401,
      200,
      undefined,
    ]);
  });

  test('a revoked token is answered 401 alike for every stream', async () => {
    await using serving = await open(here);
    const token = await issue('ann', { streams: ['*'] });
    await serving.handler.revoke({ principal: 'ann' });
    const answers = await Promise.all(
      ['orders', 'missing'].map(async (name) => {
        const response = await fetch(serving.url(name), withBearer(token));
        return [response.status, response.headers.get('www-authenticate'), await response.text()];
      }),
    );
    expect(answers[0]).toEqual(answers[1]);
    expect(answers[0]).toEqual([
      401,
      'Bearer realm="sluice", error="invalid_token"',
      expect.stringContaining('was revoked'),
    ]);
  });

  test('a process that starts later knows of it', async () => {
    const token = await issue('ann');
    await using first = await open(here);
    await first.handler.revoke({ principal: 'ann' });
    await using late = await open(there);
    expect(await statusOf(late, token)).toBe(401);
  });

  test('it is an event like any other: published with a transaction, it holds from the commit', async () => {
    await using serving = await open(here);
    const token = await issue('ann');
    using client = await connected(serving, token);
    await using pg = await openClient(db.connectionString);
    await pg.query('begin');
    await there.stream(revocations).publish({ principal: 'ann' }, { tx: pg });
    expect(await statusOf(serving, token)).toBe(200);
    await pg.query('commit');
    await client.ended();
    expect(await statusOf(serving, token)).toBe(401);
  });

  test('an event that revokes nothing is reported, and the next one counts', async () => {
    await using serving = await open(here);
    const token = await issue('ann');
    using client = await connected(serving, token);
    const failed = nextMessage<{ where: string; error: Error }>('sluice:background.failed');
    await there.stream(revocations).appendMany([{ data: { user: 'ann' } }, { data: { principal: 'ann' } }]);
    await client.ended();
    expect(await failed).toMatchObject({ where: 'revocations', error: { code: 'payload_invalid' } });
  });

  test('needs the option, and somebody to revoke', async () => {
    await using without = await serve(here);
    await expect(without.handler.revoke({ principal: 'ann' })).rejects.toThrow(/the option `revocations`/);
    await using serving = await open(here);
    for (const nobody of [{}, { principal: '' }, { tokenId: 7 as unknown as string }]) {
      await expect(serving.handler.revoke(nobody)).rejects.toThrow(TypeError);
    }
    const issuedBefore = 'yesterday' as unknown as Date;
    await expect(serving.handler.revoke({ principal: 'ann', issuedBefore })).rejects.toThrow(
      'issuedBefore is "yesterday"; give a Date',
    );
    expect((await here.stream(revocations).info())?.head ?? 0n).toBe(0n);
  });

  test('the stream keeps them for longer than a token can live', async () => {
    await using serving = await open(here);
    await serving.handler.revoke({ principal: 'ann' });
    expect(await here.stream(revocations).info()).toMatchObject({ retention: { maxAgeMs: 31 * 86_400_000 } });
  });
});

describe('with a hook of your own', () => {
  test('connections end; who is let in again is let in again', async () => {
    const authorize = async (): Promise<Grant> => ({ principal: 'ann' });
    await using serving = await open(here, { authorize });
    using client = await connected(serving, '');
    await serving.handler.revoke({ principal: 'ann' });
    await client.ended();
    expect(await statusOf(serving, '')).toBe(200);
  });

  test('a revocation that arrives while the hook is at work counts', async () => {
    const [asked, answer] = [deferred(), deferred()];
    const authorize = async (): Promise<Grant> => {
      asked.resolve();
      await answer.promise;
      return { principal: 'ann' };
    };
    await using serving = await open(here, { authorize });
    const status = statusOf(serving, '');
    await asked.promise;
    await serving.handler.revoke({ principal: 'ann' });
    answer.resolve();
    expect(await status).toBe(401);
  });
});

describe('a hook was asked before the list was read', () => {
  const slowly = (): { asked: Promise<void>; answer: () => void; authorize: HandlerOptions['authorize'] } => {
    const [asked, answer] = [deferred(), deferred()];
    const authorize = async (): Promise<Grant> => {
      asked.resolve();
      await answer.promise;
      return { principal: 'ann' };
    };
    return { asked: asked.promise, answer: () => answer.resolve(), authorize };
  };

  test('the first request of a process: what was revoked meanwhile counts', async () => {
    const { asked, answer, authorize } = slowly();
    await here.createStream(revocations);
    await using serving = await open(here, { authorize });
    const status = statusOf(serving, '');
    await asked;
    await there.stream(revocations).append({ principal: 'ann' });
    answer();
    expect(await status).toBe(401);
  });

  test('and so it does when all is read again', async () => {
    const { asked, answer, authorize } = slowly();
    await using serving = await open(here, { authorize });
    await serving.handler.revoke({ tokenId: 'unheard of' });
    const status = statusOf(serving, '');
    await asked;
    const failed = nextMessage<{ where: string }>(
      'sluice:background.failed',
      ({ where }) => where === 'revocations',
    );
    await here.deleteStream(revocations);
    await there.stream(revocations).append({ principal: 'ann' });
    await failed;
    await until(async () => {
      const revoked = serving.handler.revoke({ tokenId: 'unheard of' });
      return revoked.then(
        () => true,
        () => false,
      );
    });
    answer();
    expect(await status).toBe(401);
  });

  test('what was revoked well before refuses nobody whom a hook lets in', async () => {
    await here.createStream(revocations);
    await here.stream(revocations).append({ principal: 'ann' });
    await db.query(
      `update sluice.events set at = at - interval '10 s'
       where stream_id = (select id from sluice.streams where name = $1)`,
      [revocations],
    );
    await using serving = await open(here, { authorize: async () => ({ principal: 'ann' }) });
    expect(await statusOf(serving, '')).toBe(200);
  });
});

test('what was revoked stays so when the clock of the machine has been ahead for a while', async () => {
  await using serving = await open(here);
  const token = await issue('ann', { id: 'lost', expiresInMs: 86_400_000 });
  await serving.handler.revoke({ tokenId: 'lost' });
  expect(await statusOf(serving, token)).toBe(401);
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 40 * 86_400_000 });
  onTestFinished(() => void vi.useRealTimers());
  await serving.handler.revoke({ tokenId: 'another' });
  vi.useRealTimers();
  expect(await statusOf(serving, token)).toBe(401);
});

describe('when the list cannot be read', () => {
  test('nobody gets in: 503 with Retry-After, and then as before', async () => {
    await using serving = await open(here, { authorize: anyone });
    await db.query('alter table sluice.streams rename to away');
    const failed = nextMessage<{ where: string }>(
      'sluice:background.failed',
      ({ where }) => where === 'revocations',
    );
    const refused = await fetch(serving.url('orders'));
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1']);
    expect(await refused.text()).not.toMatch(/revocations|relation/);
    await failed;
    await db.query('alter table sluice.away rename to streams');
    await until(async () => (await statusOf(serving, '')) === 200);
  });

  test('a stream deleted is made again, and what was known still counts', async () => {
    await using serving = await open(here);
    const [ann, ben] = [await issue('ann'), await issue('ben')];
    await serving.handler.revoke({ principal: 'ann' });
    const failed = nextMessage<{ where: string }>(
      'sluice:background.failed',
      ({ where }) => where === 'revocations',
    );
    await here.deleteStream(revocations);
    await failed;
    await until(async () => (await statusOf(serving, ben)) === 200);
    expect(await statusOf(serving, ann)).toBe(401);
    using client = await connected(serving, ben);
    await there.stream(revocations).append({ principal: 'ben' });
    await client.ended();
  });

  test('nobody gets in either once it has not been read for long, though it was read before', async () => {
    const away = { is: false };
    const stream = new Proxy(here.stream(revocations), {
      get: (target, key) => {
        if (key === 'read' && away.is) return async () => Promise.reject(new Error('away'));
        const value: unknown = Reflect.get(target, key);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
    const sluice = new Proxy(here, {
      get: (target, key) => (key === 'stream' ? () => stream : (Reflect.get(target, key) as unknown)),
    });
    await here.createStream(revocations);
    const list = new Revocations({
      sluice,
      stream: revocations,
      keepMs: 60_000,
      confirmedMs: 1,
      logger: silentLogger,
    });
    await list.ready();
    away.is = true;
    const answer = (): Promise<unknown> =>
      list.ready().then(
        () => 'ready',
        (error: unknown) => error,
      );
    await until(async () => (await answer()) !== 'ready');
    expect(await answer()).toMatchObject({ code: 'overloaded' });
    away.is = false;
    await list.ready();
    list.close();
  });

  test('a handler that closes leaves nothing behind', async () => {
    await using serving = await open(here);
    expect(await statusOf(serving, await issue('ann'))).toBe(200);
    await serving.handler.close();
    await expect(serving.handler.revoke({ principal: 'ann' })).rejects.toMatchObject({ code: 'closed' });
  });
});
