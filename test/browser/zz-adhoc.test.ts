import type { BrowserContext, Page } from 'playwright-core';
import { connect, type Sluice } from 'sluice';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
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
const program = `
  import { createClient } from './dist/client.js';
  const query = new URLSearchParams(location.search);
  globalThis.tab = { offsets: [], losses: [], states: [] };
  const ask = (url, init) => { tab.asks = (tab.asks ?? 0) + 1; return fetch(url, init); };
  const make = () => createClient({ url: query.get('url') ?? '/v1/events', shareAcrossTabs: query.get('share') ?? true, refusedRetryMs: 100, watchdogMs: 6000, backoff: { initialMs: 20, maxMs: 200 }, fetch: ask, headers: () => ({ 'x-who': query.get('who') ?? 'none' }) });
  const client = make();
  tab.client = client; tab.make = make;
  client.status.subscribe(() => tab.states.push(client.status.get().state));
  tab.read = (stream, after) => { (async () => { for await (const item of client.subscribe(stream, { after })) { if (item.kind === 'event') tab.offsets.push(Number(item.offset)); else tab.losses.push(item.kind); } })(); };
  tab.read(query.get('stream'), query.get('after') ?? 'start');
  tab.churn = async (n, stream) => { for (let i = 0; i < n; i++) { const s = client.subscribe(stream, { after: 'start' }); if (i % 3 === 0) await null; if (i % 7 === 0) { const it = s[Symbol.asyncIterator](); it.next().catch(() => {}); } s.close(); } };
`;
beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 100 });
  site = await serveClientPage(sluice, program, { limits: { retryMs: 50, heartbeatMs: 1000 } });
});
afterAll(async () => { await site[Symbol.asyncDispose](); await sluice.close(); });
beforeEach(async () => { name = `adhoc ${(names += 1)}`; await sluice.createStream(name); });
let context: BrowserContext | undefined;
let pages: Page[] = [];
afterEach(async () => { await context?.close(); context = undefined; });
const append = (count: number) => sluice.stream(name).appendMany(upTo(count).map((data) => ({ data })));
const open = async (more = '') => { context ??= await browser.browser.newContext(); const page = await context.newPage(); await page.goto(`${site.origin}/?stream=${encodeURIComponent(name)}${more}`); return page; };
const offsets = (page: Page): Promise<number[]> => page.evaluate('tab.offsets');
const reaches = async (page: Page, count: number) => { await until(async () => (await offsets(page)).length >= count).catch(() => {}); expect(await offsets(page)).toEqual(upTo(count)); };
const leader = async () => { for (const page of pages) if (await page.evaluate('!!tab.asks')) return page; throw new Error('none'); };

test('leader crashes while events flow', async () => {
  pages = [await open(), await open(), await open()];
  await append(5);
  await Promise.all(pages.map((p) => reaches(p, 5)));
  const stuck = await leader();
  const writing = (async () => { for (let i = 0; i < 40; i++) await append(1); })();
  const s = await context!.newCDPSession(stuck);
  void s.send('Page.crash').catch(() => {});
  const others = pages.filter((p) => p !== stuck);
  await writing;
  await Promise.all(others.map((p) => reaches(p, 45)));
});
test('leader frozen', async () => {
  pages = [await open(), await open(), await open()];
  await append(5);
  await Promise.all(pages.map((p) => reaches(p, 5)));
  const stuck = await leader();
  const s = await context!.newCDPSession(stuck);
  await s.send('Page.setWebLifecycleState', { state: 'frozen' });
  await append(5);
  const others = pages.filter((p) => p !== stuck);
  await Promise.all(others.map((p) => reaches(p, 10)));
  await s.send('Page.setWebLifecycleState', { state: 'active' });
  await append(5);
  await Promise.all(pages.map((p) => reaches(p, 15)));
});
test('two names, two urls', async () => {
  pages = [await open('&share=ann'), await open('&share=bob'), await open('&share=ann'), await open('&share=ann&url=/v1/events?x=1')];
  await append(3);
  await Promise.all(pages.map((p) => reaches(p, 3)));
  const asks = await Promise.all(pages.map((p) => p.evaluate('tab.asks ?? 0')));
  console.log('asks', asks, site.open());
  expect(site.open()).toBe(3);
});
test('churn in a follower and the leader; navigation away and back (bfcache)', async () => {
  pages = [await open(), await open()];
  await append(3);
  await Promise.all(pages.map((p) => reaches(p, 3)));
  await Promise.all(pages.map((p) => p.evaluate(`tab.churn(500, ${JSON.stringify(name)})`)));
  await append(2);
  await Promise.all(pages.map((p) => reaches(p, 5)));
  await until(() => site.open() === 1);
  const first = await leader();
  await first.goto(`${site.origin}/?stream=none`).catch(() => {});
  const other = pages.find((p) => p !== first)!;
  await append(2);
  await reaches(other, 7);
  await first.goBack();
  await append(2);
  await reaches(other, 9);
  await reaches(first, 9);
});
test('offline and online flapping', async () => {
  pages = [await open(), await open()];
  await append(3);
  await Promise.all(pages.map((p) => reaches(p, 3)));
  for (let i = 0; i < 10; i++) { await context!.setOffline(true); await append(1); await context!.setOffline(false); await append(1); }
  await Promise.all(pages.map((p) => reaches(p, 23)));
  console.log(JSON.stringify((await pages[0]!.evaluate('tab.states')) as string[]), await pages[0]!.evaluate('tab.asks'));
});
test('memory: 10 000 subscribe and close', async () => {
  pages = [await open('&share=')];
  await append(1);
  await reaches(pages[0]!, 1);
  const page = pages[0]!;
  const s = await context!.newCDPSession(page);
  const heap = async () => { await s.send('HeapProfiler.collectGarbage'); return ((await s.send('Runtime.getHeapUsage')) as { usedSize: number }).usedSize; };
  await page.evaluate(`tab.churn(2000, ${JSON.stringify(name)})`);
  const before = await heap();
  await page.evaluate(`tab.churn(10000, ${JSON.stringify(name)})`);
  await page.evaluate('new Promise((r) => setTimeout(r, 500))');
  const after = await heap();
  console.log('heap', before, after, 'status', JSON.stringify(await page.evaluate('tab.client.status.get()')));
});
