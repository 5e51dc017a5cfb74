// A server that can be killed: serves the database of its environment through the built package, to whoever says its
// name in `as`. Says its port on standard output, and ends when standard input does. Argument: options of connect, JSON.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect } from 'sluice';
import { createHandler } from 'sluice/http';
import { toNodeListener } from 'sluice/node';

const sluice = await connect(JSON.parse(process.argv[2] ?? '{}'));
const handler = createHandler(sluice, {
  authorize: async (request) => {
    const id = new URL(request.url).searchParams.get('as');
    return { principal: id, presence: { id } };
  },
});
const server = createServer(toNodeListener(handler));
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const address = /** @type {import('node:net').AddressInfo} */ (server.address());
process.stdout.write(`${address.port}\n`);
process.stdin.resume();
await once(process.stdin, 'end');
await handler.close();
server.close();
server.closeAllConnections();
await sluice.close();
