// Guards the client in a real browser: complete and without duplicates (I2) when the page reloads or stalls, and over one
// connection for twelve tabs on HTTP/1.1, whoever of them leads and leaves. What happens around a page is in outages.test.ts.
import type { BrowserContext, Page } from 'playwright-core';
import { connect, type Sluice } from 'sluice';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { useBrowser } from '../support/chromium.ts';
import { serveClientPage, type ClientPage } from '../support/client-page.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { upTo } from '../support/up-to.ts';

const db = useDatabase();
const browser = useBrowser();
let sluice: Sluice;
let site: ClientPage;
let name: string;
let names = 0;

// `share` shares across tabs; `after` is where to start, unless with `resume` the page kept a cursor.
const program = `
  import { createClient } from './dist/client.js';
  const query = new URLSearchParams(location.search);
  const ask = (url, init) => {
    tab.asks = true;
    return fetch(url, init);
  };
  const backoff = { initialMs: 20, maxMs: 200 };
  const options = { url: '/v1/events', shareAcrossTabs: query.has('share'), refusedRetryMs: 100, watchdogMs: 6000, backoff, fetch: ask };
  globalThis.tab = {};
  const client = createClient(options);
  Object.assign(tab, {
    client,
    read(stream, after) {
      const reader = { offsets: [], losses: [] };
      (async () => {
        for await (const item of client.subscribe(stream, { after })) {
          if (item.kind === 'event') {
            reader.offsets.push(Number(item.offset));
            if (item.cursor) localStorage.setItem(stream, item.cursor);
          } else reader.losses.push(item.kind);
        }
      })();
      return reader;
    },
  });
  if (query.has('stream')) {
    const kept = query.has('resume') ? localStorage.getItem(query.get('stream')) : null;
    tab.main = tab.read(query.get('stream'), kept ?? query.get('after') ?? 'end');
  }
`;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 100 });
  site = await serveClientPage(sluice, program, { limits: { retryMs: 50, heartbeatMs: 1000 } });
});
afterAll(async () => {
  await site[Symbol.asyncDispose]();
  await sluice.close();
});
beforeEach(async () => {
  name = `page ${(names += 1)}`;
  await sluice.createStream(name);
});

const append = (count: number): Promise<unknown> =>
  sluice.stream(name).appendMany(upTo(count).map((data) => ({ data })));
const address = (more = 'after=start'): string =>
  `${site.origin}/?stream=${encodeURIComponent(name)}&${more}`;
const offsets = (page: Page): Promise<number[]> => page.evaluate('tab.main.offsets');
const reaches = async (page: Page, count: number, first = 1): Promise<void> => {
  await until(async () => (await offsets(page)).length >= count).catch(() => {});
  expect(await offsets(page)).toEqual(upTo(first + count - 1).slice(first - 1));
};
const openPage = async (more?: string): Promise<Page> => {
  const page = await browser.newPage();
  await page.goto(address(more));
  return page;
};

describe('one page', () => {
  test('I2: a reload resumes from the cursor that the page kept', async () => {
    const page = await openPage('after=start&resume');
    await append(3);
    await reaches(page, 3);
    await append(2);
    await reaches(page, 5);
    await page.reload();
    await append(2);
    await reaches(page, 2, 6);
  });

  test('I2: a page that leaves to the background and comes back goes on', async () => {
    const page = await openPage();
    await append(1);
    await reaches(page, 1);
    const session = await page.context().newCDPSession(page);
    await session.send('Page.setWebLifecycleState', { state: 'frozen' });
    await append(5);
    await session.send('Page.setWebLifecycleState', { state: 'active' });
    await reaches(page, 6);
  });
});

describe('twelve tabs on HTTP/1.1', () => {
  let context: BrowserContext | undefined;
  let pages: Page[] = [];
  const openTabs = async (count: number): Promise<Page[]> => {
    context = await browser.newContext();
    pages = await Promise.all(upTo(count).map(() => context!.newPage()));
    await Promise.all(pages.map((page) => page.goto(address('share&after=start'))));
    return pages;
  };
  /** The tab that reads for the others: the one that was asked for events over the network. */
  const leads = (page: Page): Promise<boolean> => page.evaluate('tab.asks === true');
  const leader = async (): Promise<Page> => {
    for (const page of pages) if (await leads(page)) return page;
    throw new Error('nobody leads');
  };
  afterEach(async () => {
    await context?.close();
    context = undefined;
  });

  test('I2: the leading tab is closed, tabs reload, the server dies meanwhile', async () => {
    await openTabs(12);
    await append(10);
    await Promise.all(pages.map((page) => reaches(page, 10)));
    const first = await leader();
    await first.close();
    pages = pages.filter((page) => page !== first);
    await append(10);
    await Promise.all(pages.map((page) => reaches(page, 20)));
    await site.kill();
    await append(10);
    await site.start();
    await Promise.all(pages.map((page) => reaches(page, 30)));
    await pages[0]!.reload();
    await append(10);
    await Promise.all(pages.map((page) => reaches(page, 40)));
    await until(() => site.open() === 1);
  });

  test('I2: a tab that leads and does not answer any more loses the lead', async () => {
    await openTabs(3);
    await append(5);
    await Promise.all(pages.map((page) => reaches(page, 5)));
    const stuck = await leader();
    const session = await context!.newCDPSession(stuck);
    await session.send('Debugger.enable');
    await session.send('Debugger.pause');
    await append(5);
    const others = pages.filter((page) => page !== stuck);
    await Promise.all(others.map((page) => reaches(page, 10)));
    await session.send('Debugger.disable');
    await append(5);
    await Promise.all(pages.map((page) => reaches(page, 15)));
  });

  test('a tab that closes leaves nothing behind at the leader', async () => {
    await openTabs(3);
    await append(1);
    await Promise.all(pages.map((page) => reaches(page, 1)));
    const first = await leader();
    for (const page of pages) if (page !== first) await page.close();
    await first.evaluate('tab.client.close()');
    await until(() => site.open() === 0);
  });
});
