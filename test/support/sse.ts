// Owns the raw client of event streams: every frame as it came, in order, with comments, retry and ids of frames that
// dispatch nothing, beside what a stock parser makes of the same bytes. Strict about the wire: a line that is not a
// field we send, or a carriage return anywhere, is an error. Keeps the last id as a browser does (a frame without data
// counts), and comes back with it if asked to. Knows nothing of streams and offsets.
import { Agent, request, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { until } from './diagnostics.ts';

/** The fields of one frame; `data` with its lines joined. */
export interface Frame {
  readonly id?: string;
  readonly event?: string;
  readonly data?: string;
  readonly retry?: string;
  readonly comment?: string;
}

const LINE = /^(?:(id|event|data|retry): |(: ))([^\r]*)$/;

/** @throws Error for a line that the protocol does not have */
export function parseFrame(block: string): Frame {
  const fields: Record<string, string> = {};
  for (const line of block.split('\n')) {
    const [, name = 'comment', , value] = LINE.exec(line) ?? [];
    if (value === undefined) throw new Error(`not a line of the protocol: ${JSON.stringify(line)}`);
    if (name !== 'data' && name in fields) throw new Error(`${name} twice in ${JSON.stringify(block)}`);
    fields[name] = name === 'data' && 'data' in fields ? `${fields['data']}\n${value}` : value;
  }
  return fields;
}

/** Turns bytes into frames as they come. */
export class FrameReader {
  readonly frames: Frame[] = [];
  /** What a stock parser dispatches. */
  readonly messages: EventSourceMessage[] = [];
  /** As a browser keeps it; '' before the first. */
  lastEventId = '';
  error: Error | undefined;
  readonly #decoder = new TextDecoder();
  readonly #stock = createParser({ onEvent: (message) => this.messages.push(message) });
  #rest = '';

  feed(bytes: Uint8Array): void {
    const text = this.#decoder.decode(bytes, { stream: true });
    this.#stock.feed(text);
    const blocks = (this.#rest + text).split('\n\n');
    this.#rest = blocks.pop() ?? '';
    try {
      for (const block of blocks) this.#take(parseFrame(block));
    } catch (error) {
      this.error ??= error as Error;
    }
  }

  #take(frame: Frame): void {
    this.frames.push(frame);
    if (frame.id !== undefined) this.lastEventId = frame.id;
  }
}

/** One connection. */
export class SseClient extends FrameReader {
  readonly response: IncomingMessage;
  /** The connection is over, and how: `end` properly, `cut` otherwise. */
  over: 'end' | 'cut' | undefined;

  /** Use `openSse`. */
  constructor(response: IncomingMessage) {
    super();
    this.response = response;
    response.on('data', (bytes: Buffer) => this.feed(bytes));
    response.on('error', () => {}); // 'close' follows
    response.once('close', () => (this.over = response.complete ? 'end' : 'cut'));
  }

  get socket(): Socket {
    return this.response.socket;
  }
  /** Frames with data, without the control frames. */
  get events(): Frame[] {
    return this.frames.filter(({ event, data }) => data !== undefined && !event?.startsWith('sluice:'));
  }
  control(event: string): unknown[] {
    const frames = this.frames.filter((frame) => frame.event === `sluice:${event}`);
    return frames.map(({ data = '' }) => JSON.parse(data) as unknown);
  }

  /** The offsets of the envelopes received. */
  get offsets(): number[] {
    return this.events.map(({ data = '' }) => Number((JSON.parse(data) as { offset: string }).offset));
  }

  /** Waits until it holds; fails when a frame was malformed. */
  until(condition: (client: this) => boolean): Promise<void> {
    return until(() => {
      if (this.error) throw this.error;
      return condition(this);
    }).catch((error: unknown) => {
      const last = this.frames
        .slice(-10)
        .map(({ data, ...rest }) => ({ ...rest, data: data?.slice(0, 100) }));
      const got = JSON.stringify({ over: this.over, frames: this.frames.length, last });
      throw new Error(`${String(condition)}: ${got}`, { cause: error });
    });
  }
  /** Waits until it has an id to come back with: it is subscribed, and misses nothing from here on. */
  opened(): Promise<void> {
    return this.until(({ lastEventId }) => lastEventId !== '');
  }
  /** Waits for this many events. */
  received(count: number): Promise<void> {
    return this.until(() => this.events.length >= count);
  }
  ended(): Promise<void> {
    return this.until(() => this.over !== undefined);
  }

  /** Stops reading the socket, as a stalled tab does. */
  pause(): void {
    this.response.pause();
    this.socket.pause();
  }
  resume(): void {
    this.socket.resume();
    this.response.resume();
  }
  close(): void {
    this.response.destroy();
  }
  [Symbol.dispose](): void {
    this.close();
  }
}

export interface OpenOptions {
  readonly lastEventId?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/** Connects; rejects unless it is answered with an event stream. */
export const openSse = (
  url: string,
  { lastEventId = '', headers = {} }: OpenOptions = {},
): Promise<SseClient> =>
  new Promise((resolve, reject) => {
    const sent = lastEventId === '' ? headers : { ...headers, 'last-event-id': lastEventId };
    const asked = request(url, {
      agent: new Agent({ keepAlive: true }),
      headers: { accept: 'text/event-stream', ...sent },
    });
    asked.once('error', reject);
    asked.once('response', (response) => {
      const type = response.headers['content-type'] ?? '';
      if (response.statusCode === 200 && type.startsWith('text/event-stream'))
        return resolve(new SseClient(response));
      response.resume();
      reject(new Error(`${url} was answered with ${response.statusCode} ${type}`));
    });
    asked.end();
  });

/** Follows a stream through reconnects, as a browser does but without its pauses, until closed. */
export class ResumingSse {
  readonly events: Frame[] = [];
  connections = 0;
  /** The id it comes back with; '' before the first. */
  lastEventId = '';
  #client: SseClient | undefined;
  #closed = false;

  constructor(url: string) {
    void this.#follow(url);
  }

  close(): void {
    this.#closed = true;
    this.#client?.close();
  }
  [Symbol.dispose](): void {
    this.close();
  }

  async #follow(url: string): Promise<void> {
    while (!this.#closed) {
      const client = await openSse(url, { lastEventId: this.lastEventId }).catch(() => undefined);
      if (!client) continue;
      this.#client = client;
      this.connections += 1;
      if (this.#closed) return client.close();
      let taken = 0;
      await until(
        () => {
          for (const frame of client.events.slice(taken)) this.events.push(frame);
          taken = client.events.length;
          if (client.lastEventId !== '') this.lastEventId = client.lastEventId;
          return this.#closed || client.over !== undefined;
        },
        { deadlineMs: 600_000 },
      );
    }
  }
}
