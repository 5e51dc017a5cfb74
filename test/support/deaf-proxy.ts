// Owns a fault that TCP cannot show: a connection to Postgres on which everything works and no notification arrives.
// A proxy that understands just enough of the protocol to leave out NotificationResponse while it is deaf. Speaks to
// clients without TLS only.
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** The type byte of NotificationResponse; type and length of any message take five bytes. */
const NOTIFICATION = 'A'.charCodeAt(0);
const HEADER_BYTES = 5;

interface Target {
  readonly targetHost: string;
  readonly targetPort: number;
}

export class DeafProxy {
  /** While true, notifications are dropped. */
  deaf = false;
  readonly #target: Target;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #dropped = 0;

  constructor(target: Target) {
    this.#target = target;
    this.#server = createServer({ noDelay: true }, (client) => this.#carry(client));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Notifications dropped so far. */
  get dropped(): number {
    return this.#dropped;
  }

  async listen(): Promise<this> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this;
  }

  [Symbol.dispose](): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #carry(client: Socket): void {
    const { targetHost: host, targetPort: port } = this.#target;
    const server = connect({ host, port, noDelay: true });
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.once('close', () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
    client.pipe(server);
    let rest: Buffer = Buffer.alloc(0);
    server.on('data', (chunk: Buffer) => {
      rest = this.#pass(Buffer.concat([rest, chunk]), client);
    });
  }

  /** Passes whole messages on; returns the beginning of the next one. */
  #pass(bytes: Buffer, client: Socket): Buffer {
    let at = 0;
    while (bytes.length - at >= HEADER_BYTES) {
      const end = at + 1 + bytes.readInt32BE(at + 1);
      if (end > bytes.length) break;
      if (this.deaf && bytes[at] === NOTIFICATION) this.#dropped += 1;
      else client.write(bytes.subarray(at, end));
      at = end;
    }
    return bytes.subarray(at);
  }
}

/** The connection string that leads through a proxy on this machine. */
export function through(proxy: { readonly port: number }, connectionString: string): string {
  const url = new URL(connectionString);
  url.hostname = '127.0.0.1';
  url.port = String(proxy.port);
  return url.href;
}

/** Where a connection string leads. */
export function targetOf(connectionString: string): Target {
  const { hostname, port } = new URL(connectionString);
  return { targetHost: hostname, targetPort: Number(port || 5432) };
}
