// Owns a handler behind node:http for tests: a free port, the server's side of each response, and an end that leaves no
// socket behind. Decides nothing about what is served.
import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { connect as dial, type AddressInfo } from 'node:net';
import { connect, type ConnectOptions, type Sluice } from 'sluice';
import { createHandler, type Authorize, type HandlerOptions, type SluiceHandler } from 'sluice/http';
import { toNodeListener } from 'sluice/node';
import { afterAll, beforeAll } from 'vitest';
import type { Database } from './database.ts';

export const anyone: Authorize = async () => ({ principal: null });

export class Serving {
  readonly handler: SluiceHandler;
  readonly server: Server;
  /** The server's side of every response, in order of the requests. */
  readonly responses: ServerResponse[] = [];

  constructor(handler: SluiceHandler) {
    const listener = toNodeListener(handler);
    this.handler = handler;
    this.server = createServer((request, response) => {
      this.responses.push(response);
      listener(request, response);
    });
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }
  get origin(): string {
    return `http://127.0.0.1:${this.port}`;
  }
  /** The address of a stream, with more of the query if given. */
  url(stream: string, more = '', port: number = this.port): string {
    return `http://127.0.0.1:${port}/v1/events?stream=${encodeURIComponent(stream)}${more && `&${more}`}`;
  }

  /** What is answered to bytes that no client library would send; they must ask for `connection: close`. */
  async raw(text: string): Promise<string> {
    const socket = dial(this.port, '127.0.0.1');
    socket.setEncoding('latin1').write(text, 'latin1');
    let answer = '';
    for await (const chunk of socket) answer += String(chunk);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.handler.close();
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }
}

/** Serves a Sluice on a free loopback port, to anyone unless told otherwise. */
export async function serve(sluice: Sluice, options: Partial<HandlerOptions> = {}): Promise<Serving> {
  return serveHandler(createHandler(sluice, { authorize: anyone, ...options }));
}

export async function serveHandler(handler: SluiceHandler, port = 0): Promise<Serving> {
  const serving = new Serving(handler);
  serving.server.listen(port, '127.0.0.1');
  await once(serving.server, 'listening');
  return serving;
}

/** Gives the test file a Sluice on its database, served to anyone, from its first test to its last. */
export function useServing(
  db: Database,
  options: ConnectOptions,
  told: (started: { readonly sluice: Sluice; readonly serving: Serving }) => void,
): void {
  let end: (() => Promise<void>) | undefined;
  beforeAll(async () => {
    const sluice = await connect({ connectionString: db.connectionString, ...options });
    const serving = await serve(sluice);
    end = async () => {
      await serving[Symbol.asyncDispose]();
      await sluice.close();
    };
    told({ sluice, serving });
  });
  afterAll(async () => end?.());
}
