// A Sluice behind the HTTP server of Bun or Deno, until its standard input ends. Prints its origin.
import { connect } from 'sluice';
import { createHandler } from 'sluice/http';

const sluice = await connect();
const handler = createHandler(sluice, { authorize: async () => ({ principal: null }) });
const { Bun, Deno } = /** @type {any} */ (globalThis);
const server = Bun
  ? Bun.serve({ port: 0, hostname: '127.0.0.1', idleTimeout: 0, fetch: handler })
  : Deno.serve({ port: 0, hostname: '127.0.0.1', onListen: () => {} }, (/** @type {Request} */ request) =>
      handler(request),
    );
console.log(`http://127.0.0.1:${Bun ? server.port : server.addr.port}`);

for await (const _ of process.stdin); // until the test lets go
await handler.close();
await (Bun ? server.stop(true) : server.shutdown());
await sluice.close();
process.exit();
