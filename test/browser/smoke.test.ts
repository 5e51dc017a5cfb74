// Guards the browser support itself: a real Chromium renders a local page, runs its script and reaches a local server.
// Where this fails, no other browser test means anything.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { useBrowser } from '../support/chromium.ts';

const browser = useBrowser();

const html = `<!doctype html><title>smoke</title><p id="said"></p>
<script>
  const source = new EventSource('/events');
  source.onmessage = ({ data }) => { document.querySelector('#said').textContent = data; source.close(); };
</script>`;

test('a page renders, runs its script and receives an event', async () => {
  const server = createServer((request, response) => {
    if (request.url === '/events') {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).end('data: hello\n\n');
    } else {
      response.writeHead(200, { 'content-type': 'text/html' }).end(html);
    }
  });
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  expect(await page.title()).toBe('smoke');
  await page.locator('#said', { hasText: 'hello' }).waitFor();
});
