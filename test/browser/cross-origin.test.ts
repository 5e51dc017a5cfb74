// Guards the Origin rules against a real browser: what Chromium sends of its own accord (preflights, cookies, Origin and
// Sec-Fetch-Site) is what the rules are made for, and a page can read what it is allowed to and nothing else.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { connect, type Sluice } from 'sluice';
import { createTokens } from 'sluice/http';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { useBrowser } from '../support/chromium.ts';
import { useDatabase } from '../support/database.ts';
import { serve, type Serving } from '../support/serve.ts';
import { newSecret } from '../support/tokens.ts';

const db = useDatabase();
const browser = useBrowser();
const tokens = createTokens({ secret: newSecret(), cookie: true });
let sluice: Sluice;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString });
  await sluice.stream('orders').append({ id: 1 });
  return () => sluice.close();
});

/** An origin of its own, with an empty page. */
const openOrigin = async (host: string): Promise<string> => {
  const server = createServer((_, response) => {
    response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>page</title>');
  });
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://${host}:${(server.address() as AddressInfo).port}`;
};

/** What a page of the origin sees of the streams: the text of the first event, or that it was kept out. */
const seenFrom = async (
  origin: string,
  asked: { readonly url: string; readonly bearer?: string; readonly withCredentials?: boolean },
  cookie?: { readonly value: string; readonly url: string },
): Promise<string> => {
  const page = await browser.newPage();
  if (cookie) await page.context().addCookies([{ name: 'sluice_token', ...cookie }]);
  await page.goto(origin);
  return page.evaluate(async ({ url, bearer, withCredentials = false }) => {
    if (bearer === undefined) {
      const source = new EventSource(url, { withCredentials });
      const first = await new Promise<string>((resolve) => {
        source.addEventListener('message', ({ data }) => resolve(String(data)));
        source.addEventListener('error', () => resolve('kept out'));
      });
      source.close();
      return first;
    }
    const headers = { authorization: `Bearer ${bearer}`, 'last-event-id': 'start' };
    const response = await fetch(url, { headers }).catch(() => undefined);
    return response ? `${response.status}` : 'kept out';
  }, asked);
};

const issue = (): Promise<string> => tokens.issue({ streams: ['orders'], expiresInMs: 600_000 });
const open = async (
  origins: readonly string[],
  credentials = false,
): Promise<{ serving: Serving; asked: () => number }> => {
  let count = 0;
  const serving = await serve(sluice, {
    authorize: (...request) => {
      count += 1;
      return tokens.authorize(...request);
    },
    cors: { origins, credentials },
  });
  onTestFinished(() => serving[Symbol.asyncDispose]());
  return { serving, asked: () => count };
};
const event = expect.stringContaining('"data":{"id":1}') as string;

// The first is another site than the server, the second the same site and another origin: cookies do not know ports.
describe.each(['localhost', '127.0.0.1'])('a page on %s', (host) => {
  test('with a token in a header: only from an origin that is named', async () => {
    const [shop, evil] = [await openOrigin(host), await openOrigin(host)];
    const { serving, asked } = await open([shop]);
    const url = serving.url('orders');
    const bearer = await issue();
    expect(await seenFrom(evil, { url, bearer })).toBe('kept out');
    expect(asked()).toBe(0);
    expect(await seenFrom(shop, { url, bearer })).toBe('200');
    expect(await seenFrom(shop, { url, bearer: 'wrong' })).toBe('401');
  });

  test('an EventSource with a ticket: only from an origin that is named', async () => {
    const [shop, evil] = [await openOrigin(host), await openOrigin(host)];
    const { serving, asked } = await open([shop]);
    const url = serving.url('orders', `after=start&ticket=${await tokens.ticket({ streams: ['orders'] })}`);
    expect(await seenFrom(evil, { url })).toBe('kept out');
    expect(asked()).toBe(0);
    expect(await seenFrom(shop, { url })).toEqual(event);
  });
});

test('an EventSource with cookies: from the same origin, and from one that is named and may send them', async () => {
  const [shop, evil] = [await openOrigin('127.0.0.1'), await openOrigin('127.0.0.1')];
  const { serving, asked } = await open([shop], true);
  const { serving: strict, asked: askedStrict } = await open([shop]);
  const value = await issue();
  const seen = (from: string, at: Serving): Promise<string> =>
    seenFrom(
      from,
      { url: at.url('orders', 'after=start'), withCredentials: true },
      { value, url: at.origin },
    );
  expect(await seen(evil, serving)).toBe('kept out');
  expect(asked()).toBe(0);
  expect(await seen(shop, serving)).toEqual(event);
  expect(await seen(shop, strict)).toBe('kept out');
  expect(askedStrict()).toBe(0);
  expect(await seen(`${strict.origin}/livez`, strict)).toEqual(event);
});
