// Guards presence by capability token: closed unless the token says so, as the principal or as whoever it names, for
// tokens and tickets alike, and for nobody who made the claim up.
import { connect, type Sluice } from 'sluice';
import { createTokens, type TokenRequest } from 'sluice/http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { presentIn } from '../support/present.ts';
import { serve, type Serving } from '../support/serve.ts';
import { openSse, type SseClient } from '../support/sse.ts';
import { decodePart, forge, newSecret } from '../support/tokens.ts';

const db = useDatabase();
const secret = newSecret();
const tokens = createTokens({ secret });
let sluice: Sluice;
let serving: Serving;
let room: string;
let rooms = 0;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, presenceGraceMs: 50 });
  serving = await serve(sluice, { authorize: tokens.authorize });
});
afterAll(async () => {
  await serving[Symbol.asyncDispose]();
  await sluice.close();
});

type Asked = Omit<TokenRequest, 'streams' | 'expiresInMs'>;
const issue = (asked: Asked): Promise<string> =>
  tokens.issue({ streams: ['room *'], expiresInMs: 60_000, ...asked });
const newRoom = async (): Promise<void> => {
  room = `room ${(rooms += 1)}`;
  await sluice.createStream(room);
};
const says = (state?: unknown): string =>
  `presence=${state === undefined ? '' : encodeURIComponent(JSON.stringify(state))}`;
const bearer = (token: string): { headers: Record<string, string> } => ({
  headers: { authorization: `Bearer ${token}` },
});
const enter = async (asked: Asked, state?: unknown): Promise<SseClient> =>
  openSse(serving.url(room, says(state)), bearer(await issue(asked)));
const sees = (client: SseClient, members: Record<string, unknown>): Promise<void> =>
  client.until(({ frames }) => JSON.stringify(presentIn(frames, room)) === JSON.stringify(members));
const statusOf = async (token: string): Promise<number> => {
  const { status, body } = await fetch(serving.url(room, says()), bearer(token));
  await body?.cancel();
  return status;
};

describe('who is present', () => {
  test('the principal, in each stream that the token covers, with the state that the client says', async () => {
    await newRoom();
    using ann = await enter({ principal: 'ann', presence: true }, { mood: 'fine' });
    await sees(ann, { ann: { mood: 'fine' } });
    using bob = await enter({ principal: 'bob', presence: {} });
    for (const client of [ann, bob]) await sees(client, { ann: { mood: 'fine' }, bob: null });
    expect(await sluice.stream(room).presence.count()).toBe(2);
  });

  test('with a ticket too, which a stock EventSource can send', async () => {
    await newRoom();
    const ticket = await tokens.ticket({ principal: 'ann', streams: [room], presence: true });
    using ann = await openSse(serving.url(room, `${says('here')}&ticket=${ticket}`));
    await sees(ann, { ann: 'here' });
  });

  test('another id and a state of the token, whatever the client says', async () => {
    await newRoom();
    using ann = await enter(
      { principal: 'user 7', presence: { id: 'ann', state: { name: 'Ann' } } },
      { name: 'God' },
    );
    await sees(ann, { ann: { name: 'Ann' } });
  });

  test('nobody, who sees the others', async () => {
    await newRoom();
    using watcher = await enter({ principal: 'root', presence: { id: null } });
    await sees(watcher, {});
    using ann = await enter({ principal: 'ann', presence: true });
    for (const client of [ann, watcher]) await sees(client, { ann: null });
  });
});

describe('who is not', () => {
  test('a token that does not say so reads, and is answered 403 when it asks', async () => {
    await newRoom();
    for (const presence of [undefined, false]) {
      const token = await issue({ principal: 'ann', presence });
      expect(decodePart(token, 1)).not.toHaveProperty('presence');
      expect(await statusOf(token)).toBe(403);
      using client = await openSse(serving.url(room), bearer(token));
      expect(client.control('presence')).toEqual([]);
    }
  });

  test('a stream that the token does not cover is answered as ever', async () => {
    await newRoom();
    expect(await statusOf(await tokens.issue({ ...other, presence: true }))).toBe(404);
  });
  const other = { principal: 'ann', streams: ['other'], expiresInMs: 60_000 };

  test.each<[string, unknown]>([
    ['true', true],
    ['a name', 'ann'],
    ['null', null],
    ['nobody in particular', {}],
    ['an empty id', { id: '' }],
    ['an id that is no text', { id: 7 }],
    ['an id with control characters', { id: 'a\nb' }],
    ['an id that is too long', { id: 'a'.repeat(256) }],
  ])('signed with the secret, but with a claim that is %s', async (_, presence) => {
    await newRoom();
    const good = await issue({ principal: 'ann', presence: true });
    expect(await statusOf(await forge(good, { secret }))).toBe(200);
    expect(await statusOf(await forge(good, { secret, claims: { presence } }))).toBe(401);
  });
});

test.each<[string, unknown, typeof TypeError]>([
  ['no principal', { presence: true }, TypeError],
  ['no principal and no id', { presence: { state: 1 } }, TypeError],
  ['a name', { principal: 'ann', presence: 'ann' }, TypeError],
  ['null', { principal: 'ann', presence: null }, TypeError],
  ['an empty id', { presence: { id: '' } }, RangeError],
  ['a principal that is no id', { principal: 'a\nb', presence: true }, RangeError],
  ['a state without JSON', { principal: 'ann', presence: { state: () => {} } }, TypeError],
  ['more than fits', { principal: 'ann', presence: { state: 'x'.repeat(6000) } }, RangeError],
])('not signed: %s', async (_, asked, error) => {
  await expect(issue(asked as Asked)).rejects.toThrow(error);
});
