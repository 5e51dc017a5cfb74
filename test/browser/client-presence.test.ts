// Guards usePresence beside the other hooks in a browser, in strict mode, with capability tokens: who shows it is one
// member for as long as it is shown, whatever React mounts twice, and nobody sees the others go and come for it.
import { connect, type Sluice } from 'sluice';
import { createTokens } from 'sluice/http';
import { beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { useBrowser } from '../support/chromium.ts';
import { serveClientPage, type ClientPage } from '../support/client-page.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { changesIn, presentIn } from '../support/present.ts';
import { openSse, type SseClient } from '../support/sse.ts';
import { newSecret } from '../support/tokens.ts';

const program = `
  import { StrictMode, useState } from 'react';
  import { createRoot } from 'react-dom/client';
  import { createClient } from './dist/client.js';
  import { useConnection, usePresence, useStream } from './dist/react.js';
  const query = new URLSearchParams(location.search);
  const headers = { authorization: 'Bearer ' + query.get('token') };
  const client = createClient({ url: '/v1/events', headers, backoff: { initialMs: 20, maxMs: 200 } });
  const room = query.get('room');
  function Members({ id, state }) {
    const members = usePresence(client, room, { state });
    const told = members.map(({ id, state }) => id + '=' + JSON.stringify(state)).sort();
    return <p id={id}>{told.join(' ')}</p>;
  }
  function App() {
    const [shown, show] = useState(1);
    const [state, change] = useState('here');
    const { state: connection } = useConnection(client);
    const { events, error } = useStream(client, room, { after: 'start' });
    Object.assign(globalThis, { show, change });
    return <>
      <p id="connection">{connection}</p>
      <p id="events">{events.map(({ offset }) => String(offset)).join(' ')}</p>
      <p id="error">{error === null ? 'none' : error.code}</p>
      {shown > 0 && <Members id="members" state={{ is: state }} />}
      {shown > 1 && <Members id="again" state={{ is: state }} />}
    </>;
  }
  createRoot(document.body.appendChild(document.createElement('div'))).render(<StrictMode><App /></StrictMode>);
`;

const db = useDatabase();
const browser = useBrowser();
const tokens = createTokens({ secret: newSecret() });
let sluice: Sluice;
let site: ClientPage;
let room: string;
let rooms = 0;

beforeAll(async () => {
  sluice = await connect({
    connectionString: db.connectionString,
    fallbackPollMs: 100,
    presenceGraceMs: 2000, // of the 5 s that it is by default: a changed state is another connection, after the one before
  });
  site = await serveClientPage(sluice, program, { authorize: tokens.authorize });
  return async () => {
    await site[Symbol.asyncDispose]();
    await sluice.close();
  };
});
beforeEach(async () => {
  room = `room ${(rooms += 1)}`;
  await sluice.createStream(room);
});

const tokenOf = (principal: string, presence: boolean | { id: null }): Promise<string> =>
  tokens.issue({ principal, streams: ['room *'], presence, expiresInMs: 600_000 });
const open = async (principal: string, presence = true) => {
  const page = await browser.newPage();
  const complaints: string[] = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  const token = await tokenOf(principal, presence);
  await page.goto(`${site.origin}/?${new URLSearchParams({ room, token }).toString()}`);
  const shows = async (id: string, text: string): Promise<void> => {
    let last: string | null = null;
    await until(async () => (last = await page.locator(`#${id}`).textContent()) === text).catch(
      (error: unknown) => {
        throw new Error(`#${id} shows ${JSON.stringify(last)}, not ${JSON.stringify(text)}`, {
          cause: error,
        });
      },
    );
  };
  return { page, shows, complaints };
};
/** Sees who is there, and is not seen. */
const watch = async (): Promise<SseClient> => {
  const watcher = await openSse(
    `${site.origin}/v1/events?${new URLSearchParams({ stream: room, presence: '' }).toString()}`,
    { headers: { authorization: `Bearer ${await tokenOf('watcher', { id: null })}` } },
  );
  onTestFinished(() => watcher.close());
  await watcher.until(({ frames }) => presentIn(frames, room) !== undefined);
  return watcher;
};
const told = ({ frames }: SseClient): string[] => changesIn(frames, room);

test('strict mode mounts twice and is one member once, beside the stream and the connection', async () => {
  const watcher = await watch();
  const before = site.requests.length;
  const ann = await open('ann');
  await ann.shows('members', 'ann={"is":"here"}');
  await ann.shows('connection', 'live');
  const bob = await open('bob');
  for (const { shows } of [ann, bob]) await shows('members', 'ann={"is":"here"} bob={"is":"here"}');
  await sluice.stream(room).appendMany([{ data: 1 }, { data: 2 }]);
  for (const { shows } of [ann, bob]) await shows('events', '1 2');
  expect(told(watcher)).toEqual(['join ann', 'join bob']);
  const asked = site.requests.slice(before).filter((url) => url.includes('presence='));
  expect(asked).toHaveLength(2);
  expect(await sluice.stream(room).presence.count()).toBe(2);
  await bob.page.close();
  await ann.shows('members', 'ann={"is":"here"}');
  await watcher.until((each) => told(each).length === 3);
  expect(told(watcher)).toEqual(['join ann', 'join bob', 'leave bob']);
  expect([...ann.complaints, ...bob.complaints]).toEqual([]);
});

test('another state is an update, and no leave', async () => {
  const watcher = await watch();
  const [ann, bob] = [await open('ann'), await open('bob')];
  for (const { shows } of [ann, bob]) await shows('members', 'ann={"is":"here"} bob={"is":"here"}');
  await ann.page.evaluate(`change('away')`);
  for (const { shows } of [ann, bob]) await shows('members', 'ann={"is":"away"} bob={"is":"here"}');
  await ann.page.evaluate(`change('back')`);
  for (const { shows } of [ann, bob]) await shows('members', 'ann={"is":"back"} bob={"is":"here"}');
  await until(async () => (await rowsIn(room)) === 2); // the connections with the states before are gone
  expect(told(watcher)).toEqual(['join ann', 'join bob', 'update ann', 'update ann']);
  expect([...ann.complaints, ...bob.complaints]).toEqual([]);
});

const rowsIn = async (stream: string): Promise<number> =>
  Number(
    (await db.query('select count(*) from sluice.presence where stream = $1', [stream])).rows[0]?.['count'],
  );

test('a component that goes is gone with the last of its kind, and one that comes back is there again', async () => {
  const watcher = await watch();
  const ann = await open('ann');
  await ann.shows('members', 'ann={"is":"here"}');
  await ann.page.evaluate('show(2)');
  await ann.shows('again', 'ann={"is":"here"}');
  await ann.page.evaluate('show(1)');
  await ann.shows('members', 'ann={"is":"here"}');
  expect(told(watcher)).toEqual(['join ann']);
  await ann.page.evaluate('show(0)');
  await watcher.until((each) => told(each).length === 2);
  await ann.page.evaluate('show(1)');
  await ann.shows('members', 'ann={"is":"here"}');
  await watcher.until((each) => told(each).length === 3);
  expect(told(watcher)).toEqual(['join ann', 'leave ann', 'join ann']);
  await sluice.stream(room).append(1);
  await ann.shows('events', '1'); // the stream was read all the while
  expect(ann.complaints).toEqual([]);
});

test('a server that dies and comes back has everybody there again', async () => {
  const [ann, bob] = [await open('ann'), await open('bob')];
  for (const { shows } of [ann, bob]) await shows('members', 'ann={"is":"here"} bob={"is":"here"}');
  await site.kill();
  await site.start();
  await ann.page.evaluate(`change('back')`);
  for (const { shows } of [ann, bob]) await shows('members', 'ann={"is":"back"} bob={"is":"here"}');
  await ann.shows('connection', 'live');
});

test('a token without presence shows nobody; the stream beside goes on', async () => {
  const watcher = await watch();
  const eve = await open('eve', false);
  await sluice.stream(room).append(1);
  await eve.shows('events', '1');
  await eve.shows('error', 'none');
  await until(() => eve.complaints.some((text) => text.includes('403')));
  await eve.shows('members', '');
  await sluice.stream(room).append(2);
  await eve.shows('events', '1 2');
  expect(told(watcher)).toEqual([]);
});
