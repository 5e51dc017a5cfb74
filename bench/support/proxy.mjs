// Owns a network that fails: a TCP proxy in front of the server whose connections can go silent, as behind a router
// that forgot them. No byte, end or reset passes on them any more, while both ends still take them for open.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/** @param {string} url of the server @returns {Promise<{ url: string, silence: () => void, outage: () => void, end: () => void, close: () => void }>} */
export async function openProxy(url) {
  const behind = new URL(url);
  const target = { host: behind.hostname, port: Number(behind.port || 5432), allowHalfOpen: true };
  /** @type {Set<import('node:net').Socket>} */
  const sockets = new Set();
  let out = false;
  const open = (/** @type {import('node:net').Socket} */ socket) => {
    sockets.add(socket);
    socket.setNoDelay().on('error', () => {}); // an end that is gone is part of the imitation
    socket.on('close', () => sockets.delete(socket));
    return socket;
  };
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    const client = open(socket);
    if (out) return; // taken, and never answered
    const upstream = open(connect(target));
    client.pipe(upstream).pipe(client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  behind.hostname = '127.0.0.1';
  behind.port = String(/** @type {import('node:net').AddressInfo} */ (server.address()).port);
  /** All connections there are, for good; new ones work. */
  const silence = () => sockets.forEach((socket) => socket.unpipe().pause());
  return {
    url: behind.href,
    silence,
    /** From now on until `end` new ones are silent as well. */
    outage() {
      out = true;
      silence();
    },
    end() {
      out = false;
    },
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
