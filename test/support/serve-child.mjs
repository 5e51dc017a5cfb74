// A program that serves one stream through the built package until its first event has been read, then closes all it
// opened and must exit by itself: for the test that nothing of ours keeps a process alive. Says on standard output what
// the client saw. Its environment names the database.
import { once } from 'node:events';
import { createServer, get } from 'node:http';
import { connect } from 'sluice';
import { createHandler } from 'sluice/http';
import { toNodeListener } from 'sluice/node';

const sluice = await connect();
const handler = createHandler(sluice, { authorize: async () => ({ principal: null }) });
const server = createServer(toNodeListener(handler));
server.listen(0, '127.0.0.1');
await once(server, 'listening');
await sluice.stream('child').append({ served: true });
const address = /** @type {import('node:net').AddressInfo} */ (server.address());
const [response] = /** @type {[import('node:http').IncomingMessage]} */ (
  await once(get(`http://127.0.0.1:${address.port}/v1/events?stream=child&after=start`), 'response')
);
response.setEncoding('utf8');
let text = '';
response.on('data', (chunk) => (text += chunk));
while (!text.includes('served')) await once(response, 'data');
await handler.close();
server.close();
await once(response, 'close');
await sluice.close();
process.stdout.write(text);
