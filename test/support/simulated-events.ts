// Owns a server of events that is all in memory, for tests that do many things to a client by chance: streams that grow,
// are trimmed and made again, and connections that are answered late, refused, cut, and sent in chunks of any size. Says
// what docs/protocol.md says, and nothing that the real server would not.
import type { FetchLike } from 'sluice/client';
import { decodeCursor, type CursorPosition } from '../../src/protocol/cursor.ts';
import { deferred } from '../../src/util/deferred.ts';
import type { Random } from './seed.ts';

export interface SimulatedStream {
  incarnation: number;
  head: number;
  trimmed: number;
}
interface Leg {
  readonly name: string;
  readonly stream: SimulatedStream;
  at: number;
  loss?: { readonly event: string; readonly requested: number } | undefined;
}
interface Connection {
  readonly legs: readonly Leg[];
  end(how: 'close' | 'cut'): void;
}

const invalid = (detail: string): Response =>
  new Response(JSON.stringify({ detail, code: 'cursor_invalid' }), {
    status: 400,
    headers: { 'content-type': 'application/problem+json' },
  });

const tick = (): Promise<void> => new Promise((done) => setImmediate(done));
const frame = (event: string, data: unknown): string => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;

export const positionIn = ({ incarnation }: SimulatedStream, offset: number): string =>
  `${incarnation.toString(36)}-${offset.toString(36)}-${offset === 0 ? 0 : 7}`;

export class SimulatedEvents {
  readonly streams: Map<string, SimulatedStream> = new Map<string, SimulatedStream>();
  readonly connections: Set<Connection> = new Set<Connection>();
  /** The stream that is answered 404 for now; '' is none. */
  missing = '';
  /** Whether connections fail by themselves. */
  isCalm = false;
  readonly #random: Random;
  readonly #owners = new Map<number, string>();
  #changed = deferred();

  constructor(random: Random, names: readonly string[]) {
    this.#random = random;
    for (const name of names) this.create(name);
  }

  /** Makes a stream, again if it was there, which ends who reads it. */
  create(name: string): void {
    const incarnation = this.#owners.size + 1;
    this.#owners.set(incarnation, name);
    this.streams.set(name, { incarnation, head: 0, trimmed: 0 });
    for (const connection of this.connections)
      if (connection.legs.some((leg) => leg.name === name)) connection.end('close');
  }

  append(name: string, count: number): void {
    this.streams.get(name)!.head += count;
    this.#changed.resolve();
    this.#changed = deferred();
  }

  trim(name: string, count: number): void {
    const stream = this.streams.get(name)!;
    stream.trimmed = Math.min(stream.head, stream.trimmed + count);
  }

  readonly fetch: FetchLike = async (address, { headers, signal }) => {
    const { searchParams } = new URL(address);
    for (let left = this.#random.below(3); left > 0; left -= 1) await tick();
    signal.throwIfAborted();
    if (!this.isCalm && this.#random.chance(0.05)) throw new TypeError('network');
    if (!this.isCalm && this.#random.chance(0.05)) return new Response(null, { status: 503 });
    const names = searchParams.getAll('stream');
    if (names.length === 0) throw new Error('asked for nothing');
    if (names.includes(this.missing)) return new Response(null, { status: 404 });
    const cursor = headers.get('last-event-id');
    const positions = cursor === null ? [] : decodeCursor(cursor);
    if (!positions) return invalid(`Last-Event-ID is ${cursor}`);
    const after = searchParams.get('after') ?? 'end';
    const legs = names.map((name) => this.#leg(name, positions, after));
    return new Response(this.#serve(legs, signal), { headers: { 'content-type': 'text/event-stream' } });
  };

  #leg(name: string, positions: readonly CursorPosition[], after: string): Leg {
    const stream = this.streams.get(name)!;
    const { incarnation, head, trimmed } = stream;
    const known = positions.find((each) => this.#owners.get(Number(each.incarnation)) === name);
    const offset = known ? Number(known.offset) : ({ start: trimmed, end: head }[after] ?? Number(after));
    const isOther = known ? Number(known.incarnation) !== incarnation : offset > head;
    if (isOther) return { name, stream, at: trimmed, loss: { event: 'sluice:reset', requested: offset } };
    if (offset >= trimmed) return { name, stream, at: offset };
    return { name, stream, at: trimmed, loss: { event: 'sluice:gap', requested: offset } };
  }

  #serve(legs: readonly Leg[], signal: AbortSignal): ReadableStream<Uint8Array> {
    let pull = deferred();
    let isOver = false;
    return new ReadableStream<Uint8Array>({
      start: (controller) => {
        const connection: Connection = {
          legs,
          end: (how) => {
            if (isOver) return;
            isOver = true;
            this.connections.delete(connection);
            if (how === 'close') controller.close();
            else controller.error(signal.reason ?? new TypeError('cut'));
          },
        };
        this.connections.add(connection);
        signal.addEventListener('abort', () => connection.end('cut'));
        const send = async (text: string): Promise<void> => {
          const bytes = new TextEncoder().encode(text);
          for (let from = 0; from < bytes.length;) {
            if (isOver) return;
            const to = this.#random.chance(0.5) ? bytes.length : from + 1 + this.#random.below(bytes.length);
            controller.enqueue(bytes.subarray(from, to));
            from = to;
            if ((controller.desiredSize ?? 1) <= 0) await pull.promise;
            if (!this.isCalm && this.#random.chance(0.01))
              connection.end(this.#random.pick(['close', 'cut'] as const));
          }
        };
        void this.#write(legs, send, () => isOver);
      },
      pull: () => {
        pull.resolve();
        pull = deferred();
      },
    });
  }

  async #write(
    legs: readonly Leg[],
    send: (text: string) => Promise<void>,
    isOver: () => boolean,
  ): Promise<void> {
    const streams = legs.map(({ name, stream: { head, trimmed } }) => ({
      name,
      head: String(head),
      oldest: String(trimmed + 1),
    }));
    const id = (): string => `id: ${legs.map(({ stream, at }) => positionIn(stream, at)).join('.')}\n`;
    const open = frame('sluice:open', { connectionId: 'c', streams });
    await send(`${open}${legs.map(lossOf).join('')}${id()}\n`);
    while (!isOver()) {
      const behind = legs.filter(({ stream, at }) => at < stream.head);
      if (behind.length === 0) await this.#changed.promise;
      else {
        const leg = this.#random.pick(behind);
        const { name, stream } = leg;
        if (leg.at < stream.trimmed) {
          leg.loss = { event: 'sluice:gap', requested: leg.at };
          leg.at = stream.trimmed;
          await send(`${lossOf(leg)}${id()}\n`);
        } else {
          leg.at += 1;
          const data = [stream.incarnation, leg.at];
          const event = { stream: name, offset: String(leg.at), type: null, key: null, data, at: 0 };
          await send(`${id()}data: ${JSON.stringify(event)}\n\n`);
        }
      }
    }
  }
}

const lossOf = ({ name, stream, at, loss }: Leg): string =>
  loss === undefined
    ? ''
    : frame(loss.event, {
        stream: name,
        reason: loss.event,
        requested: String(loss.requested),
        oldest: String(stream.trimmed + 1),
        head: String(stream.head),
        resumedAt: positionIn(stream, at),
      });
