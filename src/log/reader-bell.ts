// Wakes readers in every process when streams have gone on: by the commit itself (ring_readers) where its pace allows,
// else by a statement after it, whose failure is harmless (readers poll), coalesced over all streams. Payloads name
// streams and heads; readers never believe them, they only read sooner.
import type { Database } from '../db/database.ts';
import { nap } from '../util/abort.ts';
import { report } from '../util/diagnostics.ts';
import type { LoggerLike } from '../util/logger.ts';
import { BellPace } from './bell-pace.ts';

/** Streams named in one round; past that, the payload says only that something is new. */
const MAX_STREAMS = 2000;
const MAX_PAYLOAD_BYTES = 7000; // NOTIFY takes 7 999

/** What a commit has told readers. */
export interface Rung {
  readonly streams: number;
  readonly events: number;
}

export class ReaderBell {
  readonly #database: Database;
  readonly #logger: LoggerLike;
  readonly #channel: string;
  readonly #closing = new AbortController();
  readonly #pace = new BellPace();
  #pending = new Map<bigint, bigint>();
  #sending = false;
  #rounds: Promise<void> | undefined;

  constructor(database: Database, logger: LoggerLike, channel: string = database.names.readersChannel) {
    this.#database = database;
    this.#logger = logger;
    this.#channel = channel;
  }

  /**
   * Runs a statement that commits something. `mayRing`: the commit may tell readers, which saves them a round trip.
   * `rung`: what it has told them.
   */
  async commit<T>(
    statement: (mayRing: boolean) => Promise<T>,
    rung: (this: void, result: T) => Rung | undefined,
  ): Promise<T> {
    const began = performance.now();
    if (this.#sending || !this.#pace.mayRing(began)) return statement(false);
    let result: T;
    try {
      result = await statement(true);
    } catch (error) {
      const at = performance.now();
      this.#pace.failed(at, at - began);
      throw error;
    }
    const told = rung(result);
    if (told) this.#rang(told, began);
    return result;
  }

  /** Something was committed, of so many events: `head` is the stream's last offset as far as we know. */
  ring(incarnation: bigint, head: bigint, events = 1): void {
    this.#pace.passed(events);
    if ((this.#pending.get(incarnation) ?? -1n) < head) this.#pending.set(incarnation, head);
    this.#rounds ??= this.#tell();
  }

  /** Resolves when what was rung is sent. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#rounds;
  }

  #rang({ streams, events }: Rung, began: number): void {
    this.#pace.passed(events);
    const at = performance.now();
    this.#pace.rang(at, at - began);
    report('sluice:readers.notified', () => ({ channel: this.#channel, streams }));
  }

  async #tell(): Promise<void> {
    await Promise.resolve(); // what moved together is told together
    while (this.#pending.size > 0) {
      const restMs = this.#pace.restMs(performance.now());
      if (restMs > 0) await nap(restMs, this.#closing.signal).done;
      const heads = this.#pending;
      this.#pending = new Map();
      this.#sending = true;
      await this.#send(heads);
      this.#sending = false;
      this.#pace.told(performance.now());
    }
    this.#rounds = undefined;
  }

  async #send(heads: ReadonlyMap<bigint, bigint>): Promise<void> {
    try {
      await this.#database.query(
        'select pg_notify($1, p) from unnest($2::text[]) p where pg_notification_queue_usage() < 0.5',
        [this.#channel, encodeHeads(heads)],
        'sluice_notify_readers',
      );
      report('sluice:readers.notified', () => ({ channel: this.#channel, streams: heads.size }));
    } catch (error) {
      this.#logger.warn({ error }, 'readers could not be notified; they find out by polling');
      report('sluice:background.failed', () => ({ where: 'reader bell', error }));
    }
  }
}

/** Payloads: `incarnation:head`, separated by commas. An empty payload means "any stream". */
export function encodeHeads(heads: ReadonlyMap<bigint, bigint>): string[] {
  if (heads.size > MAX_STREAMS) return [''];
  const payloads: string[] = [];
  let payload = '';
  for (const [incarnation, head] of heads) {
    const entry = `${incarnation}:${head}`;
    if (payload.length + entry.length >= MAX_PAYLOAD_BYTES) {
      payloads.push(payload);
      payload = '';
    }
    payload += payload === '' ? entry : `,${entry}`;
  }
  payloads.push(payload);
  return payloads;
}

/** What a payload names; undefined for "any stream", and for anything we did not write. */
export function decodeHeads(
  payload: string,
): { readonly incarnation: bigint; readonly head: bigint }[] | undefined {
  const heads: { incarnation: bigint; head: bigint }[] = [];
  for (const entry of payload.split(',')) {
    const [, incarnation, head] = /^(\d{1,19}):(\d{1,19})$/.exec(entry) ?? [];
    if (incarnation === undefined || head === undefined) return undefined;
    heads.push({ incarnation: BigInt(incarnation), head: BigInt(head) });
  }
  return heads;
}
