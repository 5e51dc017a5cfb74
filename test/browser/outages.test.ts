// Guards what pages see of a stream through what happens to browsers (I2, I8), whichever way they read: the client itself,
// React's hooks, the custom element. The network goes, the server dies, the laptop sleeps, the token expires, the stream is
// made anew, the page is of another origin, there are twelve tabs: each page ends complete, with every event once.
import type { Page } from 'playwright-core';
import { connect, type Sluice } from 'sluice';
import { createTokens, type Authorize } from 'sluice/http';
import { beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { useBrowser } from '../support/chromium.ts';
import { serveClientPage, type ClientPage } from '../support/client-page.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { anyone, serve } from '../support/serve.ts';
import { newSecret } from '../support/tokens.ts';

const db = useDatabase();
const browser = useBrowser();
const tokens = createTokens({ secret: newSecret() });
let sluice: Sluice;
let site: ClientPage;
let authorize: Authorize = anyone;
let name: string;
let names = 0;

// `view` says which way; `at` is the origin of the events, if it is another one. What was seen is in `tab.seen`.
const program = `
  import { StrictMode, useEffect } from 'react';
  import { createRoot } from 'react-dom/client';
  import { createClient } from './dist/client.js';
  import { defineStreamElement } from './dist/element.js';
  import { useConnection, useStreamReducer } from './dist/react.js';

  const query = new URLSearchParams(location.search);
  const stream = query.get('stream');
  const url = (query.get('at') ?? '') + '/v1/events';
  let token;
  const headers = async ({ refused }) => {
    if (refused || !token) token = await newToken();
    return { authorization: 'Bearer ' + token };
  };
  const options = {
    headers: globalThis.newToken ? headers : {},
    shareAcrossTabs: query.has('share'),
    refusedRetryMs: 100,
    watchdogMs: 6000,
    backoff: { initialMs: 20, maxMs: 200 },
  };
  globalThis.tab = { seen: [], state: 'idle' };
  const shown = (item) => (item.kind === 'event' ? String(item.offset) : item.kind);

  const views = {
    async client() {
      const client = createClient({ url, ...options });
      client.status.subscribe(() => (tab.state = client.status.get().state));
      for await (const item of client.subscribe(stream, { after: 'start' })) tab.seen.push(shown(item));
    },
    react() {
      const client = createClient({ url, ...options });
      const reduce = (seen, item) => [...seen, shown(item)];
      function View() {
        const { state } = useConnection(client);
        const { value: seen } = useStreamReducer(client, stream, { after: 'start', initial: [], reduce });
        useEffect(() => void Object.assign(tab, { seen, state }));
        return <p>{seen.length}</p>;
      }
      const root = document.body.appendChild(document.createElement('div'));
      createRoot(root).render(<StrictMode><View /></StrictMode>);
    },
    element() {
      for (const kind of ['event', 'gap', 'reset'])
        document.addEventListener('sluice-' + kind, ({ detail }) => tab.seen.push(shown(detail)));
      document.addEventListener('sluice-status', ({ detail }) => (tab.state = detail.state));
      defineStreamElement({ options });
      const element = document.createElement('sluice-stream');
      for (const [name, value] of Object.entries({ src: url, stream, after: 'start' })) element.setAttribute(name, value);
      document.body.append(element);
    },
  };
  void views[query.get('view')]();
`;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 100 });
  site = await serveClientPage(sluice, program, {
    authorize: (...asked) => authorize(...asked),
    limits: { retryMs: 50, heartbeatMs: 500, drainTimeoutMs: 1000 },
  });
  return async () => {
    await site[Symbol.asyncDispose]();
    await sluice.close();
  };
});
beforeEach(async () => {
  name = `outage ${(names += 1)}`;
  await sluice.createStream(name);
});

const upTo = (count: number): string[] => Array.from({ length: count }, (_, index) => String(index + 1));
const append = (count: number, data: unknown = null): Promise<unknown> =>
  sluice.stream(name).appendMany(upTo(count).map(() => ({ data })));
const seen = (page: Page): Promise<string[]> => page.evaluate('tab.seen');
const state = (page: Page): Promise<string> => page.evaluate('tab.state');
const shows = async (page: Page, expected: readonly string[]): Promise<void> => {
  await until(async () => (await seen(page)).length >= expected.length).catch(() => {});
  expect(await seen(page)).toEqual(expected);
};
const live = (page: Page): Promise<void> => until(async () => (await state(page)) === 'live');

interface Opening {
  /** The origin of the events; default: the page's. */
  readonly at?: string;
  readonly newToken?: () => Promise<string>;
}

describe.each(['client', 'react', 'element'])('%s', (view) => {
  const address = (more: Readonly<Record<string, string>> = {}): string =>
    `${site.origin}/?${String(new URLSearchParams({ view, stream: name, ...more }))}`;
  const open = async ({ at, newToken }: Opening = {}): Promise<Page> => {
    const page = await browser.newPage();
    if (newToken) await page.exposeFunction('newToken', newToken);
    await page.goto(address(at === undefined ? {} : { at }));
    return page;
  };
  /** A page that has seen three events. */
  const openLive = async (opening?: Opening): Promise<Page> => {
    const page = await open(opening);
    await append(3);
    await shows(page, upTo(3));
    await live(page);
    return page;
  };

  test('I2: the network goes and comes back', async () => {
    const page = await openLive();
    await page.context().setOffline(true);
    await until(async () => (await state(page)) !== 'live');
    await append(3);
    await page.context().setOffline(false);
    await shows(page, upTo(6));
    await live(page);
  });

  test('I2: the server is killed and another comes', async () => {
    const page = await openLive();
    await site.kill();
    await append(3);
    await until(async () => (await state(page)) === 'waiting');
    await site.start();
    await shows(page, upTo(6));
  });

  describe('I2: the laptop sleeps, every process of the browser stopped', () => {
    test('and the server does not notice', async () => {
      const page = await openLive();
      await browser.asleep(async () => {
        await append(3);
        await until(() => site.unsent() === 0);
        expect(site.open()).toBe(1);
      });
      await append(3);
      await shows(page, upTo(9));
    });

    test('and the server drops a peer that takes nothing any more', async () => {
      const page = await openLive();
      let count = 3;
      await browser.asleep(async () => {
        let isDropped = false;
        const dropped = nextMessage<{ reason: string }>(
          'sluice:sse.closed',
          ({ reason }) => (isDropped ||= reason === 'slow'),
          { deadlineMs: 40_000 },
        );
        // Until the buffers of both kernels are full, whatever they hold.
        await until(
          async () => {
            if (isDropped || site.unsent() > 0) return isDropped;
            await append(10, 'x'.repeat(200_000));
            count += 10;
            return false;
          },
          { deadlineMs: 40_000 },
        );
        await dropped;
        await append(3);
      });
      await shows(page, upTo(count + 3));
      await append(1);
      await shows(page, upTo(count + 4));
    });

    test('and there is another server when it wakes', async () => {
      const page = await openLive();
      await browser.asleep(async () => {
        await site.kill();
        await append(3);
        await site.start();
      });
      await shows(page, upTo(6));
      await append(1);
      await shows(page, upTo(7));
    });
  });

  test('I2: its token expires, and it brings another', async () => {
    authorize = tokens.authorize;
    onTestFinished(() => void (authorize = anyone));
    let issued = 0;
    const expired = nextMessage<{ reason: string }>(
      'sluice:sse.closed',
      ({ reason }) => reason === 'expired',
      { deadlineMs: 40_000 },
    );
    const page = await openLive({
      newToken: () => {
        issued += 1;
        return tokens.issue({ streams: [name], expiresInMs: 3000 });
      },
    });
    await expired;
    await append(3);
    await shows(page, upTo(6));
    expect(issued).toBeGreaterThanOrEqual(2);
  });

  test('I8: the stream is deleted and made again', async () => {
    const page = await openLive();
    await sluice.deleteStream(name);
    await until(async () => (await state(page)) === 'refused');
    await append(2);
    await shows(page, [...upTo(3), 'reset', ...upTo(2)]);
  });

  describe('on another origin than the events', () => {
    const serveElsewhere = (origins: readonly string[]) => {
      let asked = 0;
      const counted: Authorize = (...request) => {
        asked += 1;
        return tokens.authorize(...request);
      };
      const cors = { origins };
      const started = serve(sluice, { authorize: counted, limits: { retryMs: 50 }, cors });
      return started.then((serving) => ({ serving, asked: () => asked }));
    };
    const newToken = (): Promise<string> => tokens.issue({ streams: [name], expiresInMs: 600_000 });

    test('I2: reads with a token and resumes, where its origin is named', async () => {
      const { serving, asked } = await serveElsewhere([site.origin]);
      await using elsewhere = serving;
      const page = await openLive({ at: elsewhere.origin, newToken });
      const before = asked();
      elsewhere.server.closeAllConnections();
      await append(3);
      await shows(page, upTo(6));
      expect(asked()).toBeGreaterThan(before);
      // Resuming takes a header that a page of another origin must be allowed to send.
      expect(elsewhere.responses.some(({ req }) => req.method === 'OPTIONS')).toBe(true);
      expect(elsewhere.responses.at(-1)!.req.headers).toMatchObject({
        origin: site.origin,
        'last-event-id': expect.stringContaining('-'),
      });
    });

    test('is kept out where it is not', async () => {
      const { serving, asked } = await serveElsewhere(['https://shop.example']);
      await using elsewhere = serving;
      const page = await open({ at: elsewhere.origin, newToken });
      await append(3);
      await until(() => elsewhere.responses.length >= 2);
      expect(await seen(page)).toEqual([]);
      expect(['waiting', 'connecting']).toContain(await state(page));
      expect(asked()).toBe(0);
    });
  });

  test('I2: twelve tabs on HTTP/1.1 share one connection, and all have every event', async () => {
    const context = await browser.newContext();
    onTestFinished(() => context.close());
    const pages = await Promise.all(upTo(12).map(() => context.newPage()));
    await Promise.all(pages.map((page) => page.goto(address({ share: '' }))));
    await append(50);
    await Promise.all(pages.map((page) => shows(page, upTo(50))));
    for (const page of pages) await live(page);
    await until(() => site.open() === 1);
    await site.kill();
    await append(5);
    await site.start();
    await Promise.all(pages.map((page) => shows(page, upTo(55))));
    await until(() => site.open() === 1);
  });
});
