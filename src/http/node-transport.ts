// A session's bytes on a Node response. Over HTTP/1.1 a chunk is made once and written to the socket itself, whoever gets it:
// ServerResponse would write each in four pieces, a third of all there is to do for an event.
import { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Transport, TransportEvents } from './transport.ts';

/** Bytes that may be copied to make a chunk of them in one piece; what is longer stays shared, between two small pieces. */
const MAX_COPIED = 64 * 1024;

export class NodeTransport implements Transport {
  readonly #response: ServerResponse;
  /** Takes chunks. */
  readonly #socket: Socket | undefined;
  readonly #events: TransportEvents;
  #full = false;

  /** @param response its head has been sent */
  constructor(response: ServerResponse, events: TransportEvents) {
    this.#response = response;
    this.#socket = chunkedSocketOf(response);
    this.#events = events;
    response.on('close', () => events.closed()); // comes once
    response.on('error', ignore); // 'close' follows
  }

  write(bytes: Buffer): boolean {
    const room = this.#socket ? writeChunk(this.#socket, bytes) : this.#response.write(bytes);
    if (!room && !this.#full) {
      this.#full = true; // listened for only now: most connections are never full
      (this.#socket ?? this.#response).once('drain', () => {
        this.#full = false;
        this.#events.drained();
      });
    }
    return room;
  }

  end(withinMs: number): void {
    const response = this.#response;
    response.end();
    const late = setTimeout(() => response.destroy(), withinMs);
    late.unref();
    response.once('close', () => clearTimeout(late));
  }

  destroy(): void {
    this.#response.destroy();
  }
}

const ignore = (): void => {};

/** Undefined: not HTTP/1.1, an answer before it is still on its way, or a middleware wants to see what is written. */
function chunkedSocketOf(response: ServerResponse): Socket | undefined {
  const isOwn = Reflect.get(response, 'write') === Reflect.get(ServerResponse.prototype, 'write');
  return isOwn && response.chunkedEncoding ? (response.socket ?? undefined) : undefined;
}

/** The chunk that was made last: an event goes to everybody before the next one does. */
let last: { readonly bytes: Buffer; readonly chunk: Buffer } | undefined;

function writeChunk(socket: Socket, bytes: Buffer): boolean {
  if (bytes.length === 0) return true; // an empty chunk would be the end
  if (bytes.length <= MAX_COPIED) {
    if (last?.bytes !== bytes) last = { bytes, chunk: Buffer.concat([headOf(bytes), bytes, END]) };
    return socket.write(last.chunk);
  }
  socket.cork();
  socket.write(headOf(bytes));
  socket.write(bytes);
  const room = socket.write(END);
  socket.uncork();
  return room;
}

const headOf = (bytes: Buffer): Buffer => Buffer.from(`${bytes.length.toString(16)}\r\n`);

const END = Buffer.of(0x0d, 0x0a);
