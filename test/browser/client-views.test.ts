// Guards what pages build on the client: React's hooks in strict mode, and rendered on a server and hydrated; the custom
// element in a page without a framework. Each shows every event once (I2), whatever is mounted, moved and taken away.
import { createElement, StrictMode } from 'react';
import { renderToString } from 'react-dom/server';
import { connect, type Sluice } from 'sluice';
import { createClient } from 'sluice/client';
import { useConnection, usePresence, useStream } from 'sluice/react';
import { beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { useBrowser } from '../support/chromium.ts';
import { serveClientPage, type ClientPage } from '../support/client-page.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';

const db = useDatabase();
const browser = useBrowser();
let sluice: Sluice;
let name: string;
let names = 0;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 100 });
  return () => sluice.close();
});
beforeEach(async () => {
  name = `view ${(names += 1)}`;
  await sluice.createStream(name);
});

const append = (count: number, stream = name): Promise<unknown> =>
  sluice.stream(stream).appendMany(Array.from({ length: count }, (_, data) => ({ data })));
const open = async (site: ClientPage, more = '') => {
  const page = await browser.newPage();
  const complaints: string[] = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  await page.goto(`${site.origin}/?stream=${encodeURIComponent(name)}${more}`);
  const shows = (id: string, text: string): Promise<void> =>
    page
      .locator(`#${id}`)
      .filter({ hasText: new RegExp(`^${text}$`) })
      .first()
      .waitFor();
  return { page, shows, complaints };
};

describe('React', () => {
  const program = `
    import { StrictMode, useState } from 'react';
    import { createRoot, hydrateRoot } from 'react-dom/client';
    import { createClient } from './dist/client.js';
    import { useConnection, useStream, useStreamReducer } from './dist/react.js';
    const client = createClient({ url: '/v1/events', backoff: { initialMs: 20, maxMs: 200 } });
    const query = new URLSearchParams(location.search);
    globalThis.renders = 0;
    function Events({ stream, id = 'events' }) {
      globalThis.renders += 1;
      const { events } = useStream(client, stream, { after: 'start', limit: 10_000 });
      return <p id={id}>{events.map(({ offset }) => String(offset)).join(' ')}</p>;
    }
    function Count({ stream }) {
      const reduce = (sum, item) => (item.kind === 'event' ? sum + 1 : sum);
      const { value } = useStreamReducer(client, stream, { after: 'start', initial: 0, reduce });
      return <p id="count">{value}</p>;
    }
    function App() {
      const [shown, setShown] = useState(true);
      const [stream, setStream] = useState(query.get('stream'));
      const { state } = useConnection(client);
      globalThis.show = setShown;
      globalThis.change = setStream;
      return <>
        <p id="state">{state}</p>
        {shown && <Events stream={stream} />}
        <Count stream={[stream]} />
      </>;
    }
    if (query.has('hydrate')) {
      hydrateRoot(document.getElementById('root'), <StrictMode><p id="state">idle</p><Events stream={query.get('stream')} /></StrictMode>);
    } else createRoot(document.getElementById('root')).render(<StrictMode><App /></StrictMode>);
  `;
  let site: ClientPage;
  let markup = '';
  beforeAll(async () => {
    site = await serveClientPage(sluice, program, { html: () => `<div id="root">${markup}</div>` });
    return () => site[Symbol.asyncDispose]();
  });

  test('I2: strict mode mounts twice and shows every event once, over one connection', async () => {
    const before = site.requests.length;
    const { page, shows, complaints } = await open(site);
    await append(3);
    await shows('events', '1 2 3');
    await shows('count', '3');
    await shows('state', 'live');
    await append(2);
    await shows('events', '1 2 3 4 5');
    await shows('count', '5');
    expect(site.requests.length - before).toBe(1);
    expect(site.open()).toBe(1);
    expect(complaints).toEqual([]);
    await page.close();
    await until(() => site.open() === 0);
  });

  test('I2: a component that comes back starts anew, another stream too, and nothing is left open', async () => {
    const { page, shows } = await open(site);
    await append(3);
    await shows('events', '1 2 3');
    await page.evaluate('show(false)');
    await append(1);
    await shows('count', '4');
    await page.evaluate('show(true)');
    await shows('events', '1 2 3 4');
    await append(1);
    await shows('events', '1 2 3 4 5');
    await until(() => site.open() === 1);
    const other = `${name} other`;
    await append(2, other);
    await page.evaluate(`change(${JSON.stringify(other)})`);
    await shows('events', '1 2');
    await shows('count', '2');
    await until(() => site.open() === 1);
  });

  test('a burst is few renderings', async () => {
    const { page, shows } = await open(site);
    await append(1);
    await shows('events', '1');
    const before = await page.evaluate<number>('renders');
    await append(2000);
    await shows('count', '2001');
    expect((await page.evaluate<number>('renders')) - before).toBeLessThan(400);
  });

  test('what a server renders is what the first rendering in the browser gives', async () => {
    const client = createClient({ url: '/v1/events' });
    const Page = () => {
      const { state } = useConnection(client);
      const { events } = useStream(client, name, { after: 'start' });
      const members = usePresence(client, name);
      expect([events, members]).toEqual([[], []]);
      return [
        createElement('p', { id: 'state', key: 1 }, state),
        createElement('p', { id: 'events', key: 2 }),
      ];
    };
    markup = renderToString(createElement(StrictMode, null, createElement(Page)));
    onTestFinished(() => void (markup = ''));
    const { shows, complaints } = await open(site, '&hydrate');
    await append(2);
    await shows('events', '1 2');
    expect(complaints).toEqual([]);
  });
});

describe('<sluice-stream>', () => {
  const program = `
    import { defineStreamElement } from './dist/element.js';
    globalThis.seen = [];
    for (const kind of ['event', 'gap', 'reset', 'error']) {
      document.addEventListener('sluice-' + kind, ({ detail, target }) => {
        seen.push([kind, target.id, kind === 'event' ? Number(detail.offset) : detail.code ?? detail.reason ?? detail.name]);
      });
    }
    defineStreamElement({ options: { backoff: { initialMs: 20, maxMs: 200 } } });
    defineStreamElement();
    globalThis.make = (id, attributes) => {
      const element = document.createElement('sluice-stream');
      element.id = id;
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      document.body.append(element);
    };
  `;
  let site: ClientPage;
  beforeAll(async () => {
    site = await serveClientPage(sluice, program);
    return () => site[Symbol.asyncDispose]();
  });
  const make = (id: string, attributes: Record<string, string>): string =>
    `make(${JSON.stringify(id)}, ${JSON.stringify(attributes)})`;

  test('I2: dispatches each event once, through moves, removals and other elements', async () => {
    const { page } = await open(site);
    const seen = (): Promise<unknown[]> => page.evaluate('seen');
    const seenBy = async (id: string): Promise<number> =>
      (await seen()).filter((each) => (each as string[])[1] === id).length;
    await append(2);
    await page.evaluate(make('a', { stream: name, after: 'start' }));
    await page.evaluate(make('b', { stream: name, after: '1' }));
    await until(async () => (await seenBy('a')) === 2 && (await seenBy('b')) === 1);
    await page.locator('#a[state=live]').waitFor({ state: 'attached' });
    await until(() => site.open() === 1);
    await page.evaluate(`{ const a = document.getElementById('a'); a.remove(); document.body.prepend(a); }`);
    await append(1);
    await until(async () => (await seenBy('a')) === 3 && (await seenBy('b')) === 2);
    await page.evaluate(`globalThis.a = document.getElementById('a'); a.remove()`);
    await append(1);
    await until(async () => (await seenBy('b')) === 3);
    await page.evaluate('document.body.append(a)');
    await append(1);
    await until(async () => (await seenBy('a')) >= 5 && (await seenBy('b')) >= 4);
    const of = async (id: string) =>
      (await seen()).filter((each) => (each as string[])[1] === id).map((each) => (each as number[])[2]);
    expect([await of('a'), await of('b')]).toEqual([
      [1, 2, 3, 4, 5],
      [2, 3, 4, 5],
    ]);
    await page.evaluate(`document.querySelectorAll('sluice-stream').forEach((each) => each.remove())`);
    await until(() => site.open() === 0);
  });

  test('other attributes are another subscription; what is refused for good is told', async () => {
    const { page } = await open(site);
    const seen = (): Promise<unknown[]> => page.evaluate('seen');
    const other = `${name} other`;
    await append(2);
    await append(2, other);
    await page.evaluate(make('a', { stream: other, after: 'start' }));
    await until(async () => (await seen()).length === 2);
    await page.evaluate(`document.getElementById('a').setAttribute('after', '1')`);
    await until(async () => (await seen()).length === 3);
    expect(await seen()).toEqual([
      ['event', 'a', 1],
      ['event', 'a', 2],
      ['event', 'a', 2],
    ]);
    await page.evaluate(make('both', { streams: JSON.stringify([name, other]), after: 'start' }));
    await until(async () => (await seen()).length === 7);
    await page.evaluate(make('bad', { stream: other, after: 'a-b' }));
    await page.evaluate(make('worse', { streams: 'orders' }));
    await until(async () => (await seen()).length === 9);
    expect((await seen()).slice(7)).toEqual(
      expect.arrayContaining([
        ['error', 'bad', 'cursor_invalid'],
        ['error', 'worse', 'SyntaxError'],
      ]),
    );
  });
});
