// Owns the server's end of event streams: a Sluice behind node:http, and the bare server it is compared with, which
// writes the same shared buffer to everybody.
import { once } from 'node:events';
import { connect } from 'sluice';
import { createHandler } from 'sluice/http';
import { toNodeListener } from 'sluice/node';

const HEAD = { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' };

/** All clients of a benchmark come from one address. */
const limits = { maxConnections: 20_000, maxConnectionsPerAddress: 20_000 };

/** Serves a stream, made if need be, to anybody. @param {string} url @param {string} name */
export async function sluiceStreams(url, name) {
  const sluice = await connect({ connectionString: url, migrate: 'apply' });
  const stream = sluice.stream(name);
  if ((await stream.info()) === null) await sluice.createStream(name);
  const handler = createHandler(sluice, { authorize: async () => ({ principal: null }), limits });
  return {
    stream,
    listener: toNodeListener(handler),
    close: async () => {
      await handler.close();
      await sluice.close();
    },
  };
}

/** @param {(request: import('node:http').IncomingMessage) => Buffer} [greet] what a new connection is sent first */
export function bareStreams(greet = () => COMMENT) {
  /** @type {Set<import('node:http').ServerResponse>} */
  const responses = new Set();
  return {
    /** @type {import('node:http').RequestListener} */
    listener: (request, response) => {
      response.writeHead(200, HEAD);
      response.write(greet(request));
      responses.add(response);
      response.once('close', () => responses.delete(response));
    },
    /** @param {Buffer} bytes */
    broadcast: (bytes) => {
      for (const response of responses) response.write(bytes);
    },
  };
}

/** What a greeting says that has nothing to say. */
export const COMMENT = Buffer.from(':\n\n');

/** On a free port; as many as wait to be accepted are kept. @param {import('node:net').Server} server @returns {Promise<number>} */
export async function listen(server) {
  server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
  await once(server, 'listening');
  return /** @type {import('node:net').AddressInfo} */ (server.address()).port;
}
