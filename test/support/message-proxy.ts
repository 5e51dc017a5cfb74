// Owns faults that TCP cannot show: a proxy that knows where a message of Postgres's protocol ends, and does to those
// that come from the server what its owner says. Speaks to clients without TLS only.
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** The type and length of a message take five bytes. */
const HEADER_BYTES = 5;

/** What goes on to the client in the place of a message from the server; undefined: nothing. `end`: and nothing after it. */
export type Edit = (message: Buffer, end: () => void) => Buffer | undefined;

export interface Target {
  readonly targetHost: string;
  readonly targetPort: number;
}

export class MessageProxy {
  readonly #target: Target;
  readonly #editor: () => Edit;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  /** @param editor makes the edit of one connection */
  constructor(target: Target, editor: () => Edit) {
    this.#target = target;
    this.#editor = editor;
    this.#server = createServer({ noDelay: true }, (client) => this.#carry(client));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async listen(): Promise<void> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
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
    const edit = this.#editor();
    let rest: Buffer = Buffer.alloc(0);
    server.on('data', (chunk: Buffer) => {
      rest = pass(Buffer.concat([rest, chunk]), client, edit);
    });
  }
}

/** Passes whole messages on; returns the beginning of the next one. */
function pass(bytes: Buffer, client: Socket, edit: Edit): Buffer {
  let at = 0;
  while (bytes.length - at >= HEADER_BYTES) {
    const end = at + 1 + bytes.readInt32BE(at + 1);
    if (end > bytes.length) break;
    let isLast = false;
    const message = edit(bytes.subarray(at, end), () => (isLast = true));
    if (message && client.writable) client.write(message);
    if (isLast) client.end();
    at = end;
  }
  return bytes.subarray(at);
}
