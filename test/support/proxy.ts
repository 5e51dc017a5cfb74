// Owns faults of the network: an in-process TCP proxy that stalls, cuts, half-closes, delays or refuses on command.
// It knows nothing of what it carries. Held bytes stay in the sockets' own buffers, so a black hole is bounded: the
// sender meets TCP backpressure, as behind a dead router. Its one timer imitates latency; tests do not wait on it.
import { once } from 'node:events';
import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net';
import { setTimeout as latency } from 'node:timers/promises';

export interface ProxyOptions {
  readonly targetHost?: string | undefined;
  readonly targetPort: number;
}

/** Lets bytes through while open; a pump that meets it closed waits. */
class Gate {
  #opened: Promise<void> | undefined;
  #open: (() => void) | undefined;

  close(): void {
    this.#opened ??= new Promise((resolve) => {
      this.#open = resolve;
    });
  }
  open(): void {
    this.#open?.();
    this.#opened = undefined;
  }
  async passed(): Promise<void> {
    // A gate may have closed again by the time a waiting pump wakes.
    while (this.#opened !== undefined) await this.#opened;
  }
}

interface Link {
  readonly client: Socket;
  server: Socket | undefined;
}

/** A running proxy; `close()` (or `using`) ends it with everything on it. */
export class Proxy {
  readonly host = '127.0.0.1';
  readonly #target: { readonly host: string; readonly port: number };
  readonly #listening: Server;
  readonly #links = new Set<Link>();
  readonly #toServer = new Gate();
  readonly #toClient = new Gate();
  #port = 0;
  #delayMs = 0;
  #accepted = 0;

  /** Use `createProxy`, which also starts it. */
  constructor({ targetHost = '127.0.0.1', targetPort }: ProxyOptions) {
    this.#target = { host: targetHost, port: targetPort };
    this.#listening = createServer(
      { allowHalfOpen: true, noDelay: true },
      (client) => void this.#carry(client),
    );
  }

  get port(): number {
    return this.#port;
  }
  /** Connections open now. */
  get connections(): number {
    return this.#links.size;
  }
  /** Connections ever accepted: it grows when a client reconnects. */
  get accepted(): number {
    return this.#accepted;
  }

  /** Black hole: connections stay open and new ones are accepted, but no byte, end or reset passes either way. */
  pause(): void {
    this.pauseClientToServer();
    this.pauseServerToClient();
  }
  pauseClientToServer(): void {
    this.#toServer.close();
  }
  pauseServerToClient(): void {
    this.#toClient.close();
  }
  /** Ends every pause; what was held flows on, in order. */
  resume(): void {
    this.#toServer.open();
    this.#toClient.open();
  }

  /** Resets (RST) all connections, on both sides, now. New ones are served as before. */
  cut(): void {
    for (const { client, server } of this.#links) {
      client.resetAndDestroy();
      server?.resetAndDestroy();
    }
  }

  /** Ends (FIN) the stream towards one side of every connection; the other direction goes on. */
  halfClose(towards: 'client' | 'server' = 'client'): void {
    for (const link of this.#links) link[towards]?.end();
  }

  /** Every read from now on is passed on `ms` later; 0 ends it. */
  delay(ms: number): void {
    this.#delayMs = ms;
  }

  /** New connections are refused (ECONNREFUSED); open ones live on. */
  refuse(): void {
    if (this.#listening.listening) this.#listening.close();
  }
  /** Ends `refuse()`, on the same port. */
  async accept(): Promise<void> {
    if (this.#listening.listening) return;
    this.#listening.listen(this.#port, this.host);
    await once(this.#listening, 'listening');
    this.#port = (this.#listening.address() as AddressInfo).port;
  }

  close(): void {
    this.refuse();
    for (const { client, server } of this.#links) {
      client.destroy();
      server?.destroy();
    }
    this.resume();
  }
  [Symbol.dispose](): void {
    this.close();
  }

  async #carry(client: Socket): Promise<void> {
    const link: Link = { client, server: undefined };
    this.#links.add(link);
    this.#accepted += 1;
    // The pumps see errors as a failed read or write; unheard 'error' events would end the process.
    client.on('error', () => {});
    client.once('close', () => this.#settle(link));
    await this.#toServer.passed();
    if (client.destroyed) return;
    const server = connect({ ...this.#target, allowHalfOpen: true, noDelay: true });
    link.server = server;
    server.on('error', () => {});
    server.once('close', () => this.#settle(link));
    await Promise.all([
      this.#pump(client, server, this.#toServer),
      this.#pump(server, client, this.#toClient),
    ]);
  }

  /** Passes one direction on until it ends; a broken side breaks the other, but only once the gate lets it be known. */
  async #pump(from: Socket, to: Socket, gate: Gate): Promise<void> {
    try {
      // The other direction may still write to `from` when this one has ended.
      for await (const chunk of from.iterator({ destroyOnReturn: false })) {
        if (this.#delayMs > 0) await latency(this.#delayMs);
        await gate.passed();
        await write(to, chunk as Buffer);
      }
      await gate.passed();
      to.end();
    } catch {
      await gate.passed();
      from.destroy();
      to.resetAndDestroy();
    }
  }

  #settle(link: Link): void {
    if (link.client.destroyed && (link.server?.destroyed ?? true)) this.#links.delete(link);
  }
}

/** Waits until the kernel took the bytes, which is the proxy's backpressure. After `halfClose` they go nowhere. */
const write = (to: Socket, bytes: Buffer): Promise<void> =>
  new Promise((resolve, reject) => {
    if (to.writableEnded) return resolve();
    to.write(bytes, (error) => (error ? reject(error) : resolve()));
  });

/** Starts a proxy on a free loopback port, in front of `targetHost` (127.0.0.1) and `targetPort`. */
export const createProxy = async (options: ProxyOptions): Promise<Proxy> => {
  const proxy = new Proxy(options);
  await proxy.accept();
  return proxy;
};
