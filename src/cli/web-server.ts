// The HTTP server of dev and serve: where it listens, and how it ends: clients are told first, requests under way may
// finish, and what is still open past a deadline is cut.
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { SluiceHandler } from '../http.ts';
import type { LoggerLike } from '../index.ts';
import { toNodeListener } from '../node.ts';
import { CommandError, wrongUsage } from './command-error.ts';
import { urlHost } from './loopback.ts';

const CLOSE_WITHIN_MS = 3000;
const SWEEP_EVERY_MS = 20;

export interface Address {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
}

/** The address that HOST and PORT name. @throws CommandError wrong usage */
export function addressFrom({ HOST: host = '', PORT: port = '' }: NodeJS.ProcessEnv): Address {
  const number = port === '' ? 4080 : /^\d{1,5}$/.test(port) ? Number(port) : Number.NaN;
  if (!(number <= 65_535)) throw wrongUsage(`PORT is ${JSON.stringify(port)}; give a number from 0 to 65535`);
  return { host: (host === '' ? '127.0.0.1' : host).replace(/^\[(.*)\]$/, '$1'), port: number };
}

export interface WebServer {
  readonly url: string;
  close(): Promise<void>;
}

export interface WebServerOptions {
  readonly address: Address;
  /** Told the port, which is known only once there is one. */
  readonly createHandler: (port: number) => SluiceHandler;
  readonly logger: LoggerLike;
}

/**
 * Serves until closed.
 *
 * @throws CommandError port_taken, and others that name the address
 */
export async function openWebServer({
  address,
  createHandler,
  logger,
}: WebServerOptions): Promise<WebServer> {
  const server = await listen(address);
  // Such as no file descriptor left for another connection; those there are go on.
  server.on('error', (error) => logger.error({ error }, 'a connection could not be accepted'));
  const { port } = server.address() as AddressInfo;
  const handler = createHandler(port);
  server.on('request', toNodeListener(handler));
  return {
    url: `http://${urlHost(address.host)}:${port}`,
    close: async () => {
      await handler.close();
      await closeServer(server);
    },
  };
}

/** Fails early where listening would: before a database is started for it. */
export async function requireFreeAddress(address: Address): Promise<void> {
  if (address.port !== 0) await closeServer(await listen(address));
}

async function listen({ host, port }: Address): Promise<Server> {
  const server = createServer();
  server.listen({ host, port, exclusive: true });
  try {
    await once(server, 'listening');
    return server;
  } catch (error) {
    throw cannotListen(error as NodeJS.ErrnoException, { host, port });
  }
}

function cannotListen(error: NodeJS.ErrnoException, { host, port }: Address): CommandError {
  const options = { cause: error };
  if (error.code !== 'EADDRINUSE') {
    const message = `cannot listen on ${host} port ${port}: ${error.message}; choose others with HOST= and PORT=`;
    return new CommandError('failed', message, options);
  }
  return new CommandError(
    'port_taken',
    `port ${port} on ${host} is in use by another program: stop that, or choose another with PORT=${port + 1} (PORT=0: any free one)`,
    options,
  );
}

async function closeServer(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  // Connections whose last response ends now would be kept alive for another request.
  const sweep = setInterval(() => server.closeIdleConnections(), SWEEP_EVERY_MS);
  const deadline = setTimeout(() => server.closeAllConnections(), CLOSE_WITHIN_MS);
  await closed;
  clearInterval(sweep);
  clearTimeout(deadline);
}
