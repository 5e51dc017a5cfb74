// A program that serves events through the built package for a soak, and says what it holds: of memory after a collection,
// of sockets and of descriptors. Run with --expose-gc. Says JSON on standard output, a line for each line of standard
// input: `sample` (collects first) or `look`. Ends by itself when standard input does. Argument: a connection string.
import { subscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { Pool } from 'pg';
import { connect } from 'sluice';
import { createHandler } from 'sluice/http';
import { toNodeListener } from 'sluice/node';

/** @type {string[]} */
const failures = [];
subscribe('sluice:background.failed', (message) => {
  const { where, error } = /** @type {{ where: string, error: unknown }} */ (message);
  failures.push(`${where}: ${String(error)}`);
});

const connectionString = process.argv[2] ?? '';
const pool = new Pool({ connectionString, max: 10 });
pool.on('error', () => {});
// Windows that are full soon: what fills them is no leak, and would hide one.
const window = { windowEvents: 100, windowBytes: 2 ** 20 };
const sluice = await connect({ connectionString, pool, fallbackPollMs: 1000, ...window });
const handler = createHandler(sluice, {
  authorize: async (request) => {
    const id = new URL(request.url).searchParams.get('who');
    return { principal: null, ...(id !== null && { presence: { id } }) };
  },
  limits: { heartbeatMs: 500, drainTimeoutMs: 1000, maxConnectionMs: 8000, retryMs: 50 },
});
const server = createServer(toNodeListener(handler));
server.listen(0, '127.0.0.1');
await once(server, 'listening');

const held = () => {
  const { heapUsed, rss, external } = process.memoryUsage();
  const { connections, opened, events, ended } = handler.stats();
  const sockets = process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length;
  return {
    heap: heapUsed + external,
    rss,
    /** Those to the database among them, of which the pool has more or fewer from one moment to the next. */
    sockets: sockets - pool.totalCount,
    descriptors: readdirSync('/dev/fd').length - pool.totalCount,
    connections,
    opened,
    events,
    ended,
    failures,
  };
};

/** @param {unknown} message */
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
const commands = createInterface({ input: process.stdin });
commands.on('line', (command) => {
  // What a first collection sets free by callbacks is free for the second.
  if (command === 'sample') globalThis.gc?.();
  setImmediate(() => {
    if (command === 'sample') globalThis.gc?.();
    say(held());
  });
});
const close = async () => {
  await handler.close();
  server.close();
  await sluice.close();
  await pool.end();
};
commands.once('close', () => void close());
say({ port: /** @type {import('node:net').AddressInfo} */ (server.address()).port });
