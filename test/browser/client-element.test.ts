// Guards <sluice-stream> where its attributes change while events are under way, where others use its connection, and where
// it is moved while one of its streams is gone.
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

// Each element goes on to the other stream some microtasks after its first event.
const program = `
  import { defineStreamElement } from './dist/element.js';
  globalThis.seen = {};
  globalThis.late = [];
  document.addEventListener('sluice-event', async ({ detail, target }) => {
    (seen[target.id] ??= []).push(detail.stream + detail.offset);
    if (detail.stream !== target.getAttribute('stream')) late.push(target.id);
    if (detail.stream !== 'one') return;
    for (let left = Number(target.id); left > 0; left -= 1) await null;
    if (target.getAttribute('stream') === 'one') target.setAttribute('stream', 'other');
  });
  defineStreamElement();
  globalThis.make = (id, after) => {
    const element = document.createElement('sluice-stream');
    Object.assign(element, { id });
    element.setAttribute('stream', 'one');
    element.setAttribute('after', after);
    document.body.append(element);
  };
  globalThis.told = [];
  document.addEventListener('sluice-event', ({ detail, target }) => {
    if (target.id === 'several') told.push(detail.stream + detail.offset);
  });
  globalThis.makeSeveral = (streams, more = {}) => {
    const element = document.createElement('sluice-stream');
    Object.assign(element, { id: 'several' });
    element.setAttribute('streams', JSON.stringify(streams));
    element.setAttribute('after', 'start');
    for (const [name, value] of Object.entries(more)) element.setAttribute(name, value);
    document.body.append(element);
  };
  globalThis.move = () => document.body.append(document.getElementById('several'));
`;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 100 });
  site = await serveClientPage(sluice, program);
  for (const name of ['one', 'other'])
    await sluice.stream(name).appendMany([{ data: 1 }, { data: 2 }, { data: 3 }]);
});
afterAll(async () => {
  await site[Symbol.asyncDispose]();
  await sluice.close();
});

/** With the whole program there. */
async function openPage(): Promise<Page> {
  const page = await browser.newPage();
  await page.goto(site.origin);
  await page.waitForFunction('globalThis.move');
  return page;
}

test('I2: nothing comes of the former attributes once there are others', async () => {
  const page = await openPage();
  const ids = Array.from({ length: 12 }, (_, index) => String(index));
  for (const id of ids) await page.evaluate(`make('${id}', 'start')`);
  const others = (): Promise<string[][]> =>
    page.evaluate(`Object.values(seen).map((all) => all.filter((each) => each.startsWith('other')))`);
  await until(async () => (await others()).flat().length === 3 * ids.length).catch(() => {});
  expect(await page.evaluate('late')).toEqual([]);
  expect(await others()).toEqual(ids.map(() => ['other1', 'other2', 'other3']));
});

test('shows how the connection is from the start, also where it is there already', async () => {
  const page = await openPage();
  await page.evaluate("make('a', 'end')");
  await page.locator('#a[state=live]').waitFor({ state: 'attached' });
  await page.evaluate("make('b', 'end')");
  await page.locator('#b[state=live]').waitFor({ state: 'attached' });
});

test('I2: moved while one of its streams is gone, it goes on from where it knew all of them, and does not begin again', async () => {
  await Promise.all(['stays', 'goes'].map(async (name) => sluice.stream(name).append(1)));
  const page = await openPage();
  await page.evaluate("makeSeveral(['stays', 'goes'])");
  await page.waitForFunction('told.length === 2');
  await sluice.deleteStream('goes');
  // Until it is refused both, it knows where both are, also behind a move.
  await until(() => site.requests.some((asked) => asked.includes('stays') && !asked.includes('goes')));
  await page.evaluate('move()');
  await sluice.stream('stays').append(2);
  await page.waitForFunction("told.at(-1) === 'stays2'");
  await page.evaluate('told.length = 0; move()');
  await sluice.stream('stays').append(3);
  await page.waitForFunction("told.at(-1) === 'stays3'");
  expect(await page.evaluate('told')).not.toContain('stays1');
  expect(await page.evaluate('told')).toContain('stays2');
});

test('attributes that are empty count for nothing', async () => {
  await sluice.stream('blank').append(1);
  const page = await openPage();
  await page.evaluate("makeSeveral(['blank'], { src: '', after: '', stream: '' })");
  await page.locator('#several[state=live]').waitFor({ state: 'attached' });
  await sluice.stream('blank').append(2);
  await page.waitForFunction('told.length > 0');
  expect(await page.evaluate('told')).toEqual(['blank2']);
});

test('I2: an attribute that is given the value it has begins nothing anew', async () => {
  await sluice.stream('same').append(1);
  const page = await openPage();
  await page.evaluate("makeSeveral(['same'])");
  await page.waitForFunction('told.length === 1');
  const { length } = site.requests;
  await page.evaluate(`{
    const element = document.getElementById('several');
    for (const name of ['after', 'streams']) element.setAttribute(name, element.getAttribute(name));
  }`);
  await sluice.stream('same').append(2);
  await page.waitForFunction("told.at(-1) === 'same2'");
  expect(await page.evaluate('told')).toEqual(['same1', 'same2']);
  expect(site.requests.length).toBe(length);
});
