// Guards the demo as a visitor meets it: `sluice dev --demo` in a process of its own, its page in a real browser, our
// client between them. The page's own numbers are the evidence; what they mean is judged by tally.test.ts.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Locator, Page } from 'playwright-core';
import { connect } from 'sluice';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { deferred } from '../../src/util/deferred.ts';
import { useBrowser } from '../support/chromium.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { root } from '../support/tidy/files.ts';

const db = useDatabase({ allowOpenSessions: true });
const browser = useBrowser();
const command = [`${root}dist/cli.js`, 'dev', '--demo'];

let folder: string;
let server: ChildProcess;
let url = '';

/** Starts the demo; on the port it had before, if there was one. Resolves when it has said where it listens. */
const start = async (): Promise<void> => {
  const port = url === '' ? '0' : new URL(url).port;
  const env = { ...process.env, DATABASE_URL: db.connectionString, HOST: '127.0.0.1', PORT: port };
  server = spawn(process.execPath, command, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const output of [server.stdout!, server.stderr!])
    output.on('data', (chunk) => (said += String(chunk)));
  const listening = /http:\/\/127\.0\.0\.1:[1-9]\d*/;
  await until(() => {
    if (server.exitCode !== null) throw new Error(`the demo ended with ${server.exitCode}: ${said}`);
    return listening.test(said);
  });
  url = listening.exec(said)![0];
};

const stop = async (signal: NodeJS.Signals): Promise<void> => {
  if (server.exitCode !== null || server.signalCode !== null) return;
  server.kill(signal);
  await once(server, 'exit');
};

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sluice-demo-'));
  await start();
});
afterAll(async () => {
  await stop('SIGTERM');
  await rm(folder, { recursive: true, force: true });
});

const complaints: string[] = [];
beforeEach(() => {
  complaints.length = 0;
});

/** The page once it is live and knows where it stands. */
const open = async (options: Parameters<typeof browser.newPage>[0] = {}): Promise<Page> => {
  const page = await browser.newPage(options);
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  await page.goto(url);
  await shows(page, 'status', 'live');
  await settle(page);
  return page;
};
const part = (page: Page, id: string): Locator => page.getByTestId(id);
const press = (page: Page, id: string): Promise<void> => part(page, id).click();
const shows = (page: Page, id: string, text: string | RegExp): Promise<void> => {
  const whole = typeof text === 'string' ? new RegExp(`^\\s*${text}\\s*$`) : text;
  return part(page, id).filter({ hasText: whole }).waitFor();
};
const number = async (page: Page, id: string): Promise<number> => Number(await part(page, id).textContent());
/** Waits until the database and the page agree on `n` more orders than `before`, or on any number. */
const settle = async (page: Page, expected?: number): Promise<void> => {
  await until(async () => {
    const [delivered, committed] = [await number(page, 'delivered'), await number(page, 'committed')];
    return delivered === committed && delivered === (expected ?? delivered);
  });
};
const unblemished = async (page: Page): Promise<void> => {
  await shows(page, 'verdict', 'no gap, no duplicate');
  expect([await number(page, 'gaps'), await number(page, 'duplicates')]).toEqual([0, 0]);
};
/** Places an order and waits until the shop has said that it is committed; answers its id. */
const place = async (page: Page, [button, route] = ['place-order', 'orders']): Promise<number> => {
  const answer = page.waitForResponse((response) => response.url().endsWith(`/demo/${route}`));
  await press(page, button);
  expect((await answer).status()).toBe(201);
  return ((await (await answer).json()) as { id: number }).id;
};
/** The same for an order whose event is due in five seconds; resolves when the page has said that it waits. */
const placeForLater = async (page: Page): Promise<number> => {
  const id = await place(page, ['place-later', 'later']);
  await shows(page, 'later', '1 for later');
  return id;
};
const noneWaits = (page: Page): Promise<void> => part(page, 'later').waitFor({ state: 'hidden' });
/** How often the event of an order is in the stream, and whether it came before the time of its row. */
const arrivals = async (id: number): Promise<unknown[]> => {
  const { rows } = await db.query(
    `select e.at < o.placed_at as early from sluice_demo.orders o
     join sluice.events e on (e.data ->> 'id')::integer = o.id where o.id = $1`,
    [id],
  );
  return rows;
};

test('I3: an order appears live, under the next offset', async () => {
  const page = await open();
  const [delivered, last] = [await number(page, 'delivered'), await number(page, 'last-offset')];
  await page.getByLabel('Quantity').fill('7');
  await page.getByLabel('Item').selectOption('Beeswax candle');
  await place(page);
  const row = part(page, 'feed').locator(`[data-offset="${last + 1}"]`);
  await row.waitFor();
  expect(await row.textContent()).toMatch(/Beeswax candle\s*× 7/);
  await settle(page, delivered + 1);
  await unblemished(page);
  expect(complaints).toEqual([]);
});

test('I3: nothing of a rolled-back order appears', async () => {
  const page = await open();
  const [delivered, last] = [await number(page, 'delivered'), await number(page, 'last-offset')];
  await press(page, 'roll-back');
  await page.getByText('Rolled back (1)').waitFor();
  await place(page);
  await settle(page, delivered + 1);
  expect(await number(page, 'last-offset')).toBe(last + 1);
  await unblemished(page);
});

test('I3: an order for later is no loss while it waits, and appears once, at its time', async () => {
  const page = await open();
  const [delivered, last] = [await number(page, 'delivered'), await number(page, 'last-offset')];
  await page.getByLabel('Item').selectOption('Olive oil, half a litre');
  const id = await placeForLater(page);
  const [committed, shown, verdict] = await page.evaluate<string[]>(
    `['committed', 'delivered', 'verdict'].map((id) => document.getElementById(id).textContent)`,
  );
  expect([committed, verdict]).toEqual([shown, expect.not.stringMatching(/still to come|not arrived/)]);
  // A page that opens meanwhile, and never saw the order placed.
  const other = await open({ viewport: { width: 360, height: 740 } });
  const row = part(page, 'feed').locator(`[data-offset="${last + 1}"]`);
  await row.waitFor();
  expect(await row.textContent()).toMatch(/Olive oil, half a litre/);
  expect(await arrivals(id)).toEqual([{ early: false }]);
  await settle(page, delivered + 1);
  for (const each of [page, other]) {
    await shows(each, 'last-offset', String(last + 1));
    await settle(each);
    await noneWaits(each);
    await unblemished(each);
  }
});

test('I3: an order for later outlives the server', async () => {
  const page = await open();
  const delivered = await number(page, 'delivered');
  const id = await placeForLater(page);
  await stop('SIGKILL');
  await shows(page, 'status', 'connecting');
  await start();
  await shows(page, 'status', 'live');
  await settle(page, delivered + 1);
  await noneWaits(page);
  await unblemished(page);
  expect(await arrivals(id)).toEqual([{ early: false }]);
});

test('a page that was quiet for long is not hasty, and does call missing what is', async () => {
  const page = await browser.newPage();
  await page.clock.install();
  await page.goto(url);
  await shows(page, 'status', 'live');
  await place(page);
  await settle(page);
  await unblemished(page);
  // Longer than the page is patient, and shorter than the client takes for silence.
  await page.clock.fastForward(30_000);
  // An order that is committed, as the shop says, and never comes.
  await page.route('**/demo/state', async (route) => {
    const state = (await (await fetch(`${url}/demo/state`)).json()) as { orders: number };
    await route.fulfill({ json: { ...state, orders: state.orders + 1 } });
  });
  const verdicts = part(page, 'verdict');
  await page.clock.fastForward(1_000);
  await verdicts.filter({ hasText: /still to come|not arrived/ }).waitFor();
  expect(await verdicts.textContent()).toBe('1 still to come');
  const delivered = await number(page, 'delivered');
  await place(page); // heard by the client, and not what is owed
  await shows(page, 'delivered', String(delivered + 1));
  await shows(page, 'committed', String(delivered + 2)); // until then it knows of nothing that is owed, and is patient anew
  await page.clock.fastForward(30_000);
  await shows(page, 'verdict', '1 committed event has not arrived');
});

/** Waits until the page has said how a burst ended; answers how many orders it committed. */
const committedByBurst = async (page: Page): Promise<number> => {
  const said = page.getByText(/^\d+ committed, \d+ rolled back/);
  await said.waitFor();
  return Number(/\d+/.exec((await said.textContent())!)![0]);
};

test('I1, I2, I7: a burst arrives whole and in order, in a list that stays short', async () => {
  const page = await open();
  const delivered = await number(page, 'delivered');
  await press(page, 'burst');
  await settle(page, delivered + (await committedByBurst(page)));
  await unblemished(page);
  const rows = part(page, 'feed').locator('li');
  expect(await rows.count()).toBe(50);
  const last = await number(page, 'last-offset');
  expect(await rows.first().getAttribute('data-offset')).toBe(String(last));
  expect(await rows.last().getAttribute('data-offset')).toBe(String(last - 49));
});

test('I2: what was ordered while the connection was dropped arrives on reconnecting', async () => {
  const page = await open();
  const delivered = await number(page, 'delivered');
  await press(page, 'drop');
  await shows(page, 'status', 'dropped');
  await shows(page, 'drop', 'Reconnect');
  for (let ordered = 0; ordered < 3; ordered++) await place(page);
  await shows(page, 'committed', String(delivered + 3));
  await shows(page, 'verdict', '3 still to come');
  expect(await number(page, 'delivered')).toBe(delivered);
  await press(page, 'drop');
  await shows(page, 'status', 'live');
  await settle(page, delivered + 3);
  await unblemished(page);
});

test('I8: a stream that is deleted and made again is counted anew, and nothing of the old one stays', async () => {
  const page = await open();
  for (let ordered = 0; ordered < 2; ordered++) await place(page);
  await settle(page);
  await using sluice = await connect({ connectionString: db.connectionString, relay: false });
  await sluice.deleteStream('demo-orders');
  await shows(page, 'status', 'connecting');
  await place(page);
  await shows(page, 'last-offset', '1');
  await shows(page, 'status', 'live');
  await settle(page, 1);
  await unblemished(page);
  expect(await part(page, 'feed').locator('li').count()).toBe(1);
});

describe('I2: the page survives a server that', () => {
  test.each<[string, NodeJS.Signals]>([
    ['is stopped', 'SIGTERM'],
    ['dies', 'SIGKILL'],
  ])('%s and comes back, in the middle of a burst', async (_, signal) => {
    const page = await open();
    const delivered = await number(page, 'delivered');
    await press(page, 'burst');
    await until(async () => (await number(page, 'delivered')) > delivered);
    await stop(signal);
    await shows(page, 'status', 'connecting');
    await start();
    await shows(page, 'status', 'live');
    await place(page);
    await settle(page);
    expect(await number(page, 'delivered')).toBeGreaterThan(delivered + 1);
    await unblemished(page);
  });

  test('answers with an error, as a proxy does while it has no server', async () => {
    const page = await open();
    const before = await number(page, 'delivered');
    await place(page);
    await settle(page, before + 1);
    const asked: string[] = [];
    const isSeen = deferred();
    await page.route('**/v1/events?*', async (route) => {
      asked.push(route.request().headers()['last-event-id']!);
      if (asked.length < 3) return route.fulfill({ status: 503 });
      await isSeen.promise; // how it shows that it is not connected
      return route.continue();
    });
    await press(page, 'drop');
    await shows(page, 'status', 'dropped');
    await place(page);
    await press(page, 'drop');
    await shows(page, 'status', 'connecting');
    isSeen.resolve();
    await shows(page, 'status', 'live');
    await settle(page, before + 2);
    await unblemished(page);
    expect(asked).toHaveLength(3);
    expect(new Set(asked).size).toBe(1);
  });
});

describe('anyone can use it', () => {
  const focused = (page: Page): Promise<string> =>
    page.evaluate<string>(`document.activeElement?.dataset.testid ?? document.activeElement?.id ?? ''`);

  test('with the keyboard alone', async () => {
    const page = await open();
    let delivered = await number(page, 'delivered');
    const reached: string[] = [];
    const walk: [string, string | null][] = [
      ['item', null],
      ['quantity', null],
      ['place-order', 'Enter'],
      ['roll-back', 'Space'],
      ['place-later', 'Space'],
      ['burst', 'Enter'],
      ['drop', 'Enter'],
      ['drop', 'Space'],
    ];
    for (const [id, key] of walk) {
      for (let tabs = 0; (await focused(page)) !== id && tabs < 10; tabs++) await page.keyboard.press('Tab');
      reached.push(await focused(page));
      expect(
        await page.evaluate<string>(`getComputedStyle(document.activeElement).outlineStyle`),
        `${id} shows that it has the focus`,
      ).toBe('solid');
      if (key !== null) await page.keyboard.press(key);
      if (id === 'place-order') await settle(page, delivered + 1);
      if (id === 'burst') delivered += await committedByBurst(page);
      if (id === 'drop') await shows(page, 'status', key === 'Enter' ? 'dropped' : 'live');
    }
    expect(reached).toEqual(walk.map(([id]) => id));
    await settle(page, delivered + 2);
    await unblemished(page);
  });

  test('a quantity the shop would refuse is caught in the form', async () => {
    const page = await open();
    const delivered = await number(page, 'delivered');
    await page.getByLabel('Quantity').fill('0');
    await press(page, 'place-order');
    await press(page, 'roll-back');
    expect(
      await page.evaluate<boolean>(`document.querySelector('#quantity').matches(':invalid:focus')`),
    ).toBe(true);
    await page.getByLabel('Quantity').fill('1');
    await place(page);
    await settle(page, delivered + 1);
  });

  test.each(['light', 'dark'] as const)('in the %s scheme', async (colorScheme) => {
    const page = await open({ colorScheme });
    const channels = async (property: string): Promise<number[]> => {
      const value = await page.evaluate<string>(`getComputedStyle(document.body).${property}`);
      return [...value.matchAll(/\d+/g)].slice(0, 3).map(Number);
    };
    const bright = (channel: number): boolean => channel > 127;
    expect((await channels('backgroundColor')).every(bright)).toBe(colorScheme === 'light');
    expect((await channels('color')).every(bright)).toBe(colorScheme === 'dark');
  });

  test.each([360, 768, 1_280])('on a screen %d px wide', async (width) => {
    const page = await open({ viewport: { width, height: 740 } });
    const overflow = 'document.documentElement.scrollWidth - document.documentElement.clientWidth';
    expect(await page.evaluate<number>(overflow)).toBe(0);
    await press(page, 'burst');
    await page.getByText(/^\d+ committed, \d+ rolled back/).waitFor();
    await settle(page);
    expect(await page.evaluate<number>(overflow)).toBe(0);
  });
});
