// Guards the client in a page whose network loses the parts of it that are loaded when they are needed: nothing is wrong
// for longer than they are missing.
import type { Page } from 'playwright-core';
import { connect, type Sluice } from 'sluice';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { useBrowser } from '../support/chromium.ts';
import { serveClientPage, type ClientPage } from '../support/client-page.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';

const db = useDatabase();
const browser = useBrowser();
let sluice: Sluice;
let site: ClientPage;

const program = `
  import { createClient } from './dist/client.js';
  const client = createClient({ url: '/v1/events', refusedRetryMs: 100, backoff: { initialMs: 20, maxMs: 200 } });
  const read = (streams, options) => {
    const reader = { offsets: [], members: [], over: undefined };
    (async () => {
      for await (const item of client.subscribe(streams, options)) {
        if (item.kind === 'event') reader.offsets.push(Number(item.offset));
        if (item.kind === 'presence') reader.members = item.members.map(({ id }) => id);
      }
    })().catch((error) => (reader.over = error.code));
    return reader;
  };
  globalThis.tab = { client, read };
`;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 100 });
  site = await serveClientPage(sluice, program, {
    limits: { retryMs: 50 },
    authorize: async () => ({ principal: 'ann', presence: { id: 'ann' } }),
  });
});
afterAll(async () => {
  await site[Symbol.asyncDispose]();
  await sluice.close();
});

/** A page to which no file of this name comes until it is let through; how often it was asked for. */
const openPage = async (chunk: string): Promise<{ page: Page; asked: () => number; restore: () => void }> => {
  const page = await browser.newPage();
  let asked = 0;
  let isMissing = true;
  await page.route(new RegExp(`/${chunk}-`), (route) => {
    asked += 1;
    return isMissing ? route.abort() : route.continue();
  });
  await page.goto(site.origin);
  await page.waitForFunction('globalThis.tab');
  return { page, asked: () => asked, restore: () => void (isMissing = false) };
};

test('I2: several that are refused for good are asked for in parts once that is loaded', async () => {
  await sluice.stream('good').append(1);
  const { page, asked, restore } = await openPage('rearrange');
  await page.evaluate(
    "tab.good = tab.read('good', { after: 'start' }), tab.bad = tab.read('a\\n', { after: 'start' })",
  );
  await until(() => asked() > 1);
  restore();
  await until(async () => (await page.evaluate('tab.bad.over')) === 'name_invalid');
  await until(async () => (await page.evaluate<number[]>('tab.good.offsets')).length === 1);
});

test('who is present is told again where it could not be taken in', async () => {
  await sluice.createStream('room');
  const { page, asked, restore } = await openPage('presence');
  await page.evaluate("tab.room = tab.read('room', { presence: null })");
  await until(() => asked() > 0);
  restore();
  await until(async () => (await page.evaluate<string[]>('tab.room.members')).length === 1);
  expect(await page.evaluate('tab.room.members')).toEqual(['ann']);
});
