// Wakes readers in every process after a commit: NOTIFY in a statement of its own, whose failure is harmless (readers
// poll), coalesced over all streams while one is under way. Payloads name streams and heads; readers never believe
// them, they only read sooner.
//
// A transaction that notifies holds a lock of the whole cluster while it is flushed. So commits do it themselves
// (ring_readers) only where that is rare: in a process that has not notified for a while, and not where it took long.
import type { Database } from '../db/database.ts';
import { report } from '../util/diagnostics.ts';
import { jittered } from '../util/backoff.ts';
import { nap } from '../util/abort.ts';
import type { LoggerLike } from '../util/logger.ts';
import { random } from '../util/random.ts';

/** Streams named in one round; past that, the payload says only that something is new. */
const MAX_STREAMS = 2000;
const MAX_PAYLOAD_BYTES = 7000; // NOTIFY takes 7 999
/** Rest between two rounds, so that a busy process does not notify for every commit: at least, and at most. */
const MIN_REST_MS = 2;
const MAX_REST_MS = 10;
/** A process that has not notified for so long may notify with a commit. */
const QUIET_MS = 20;
/** A commit that took longer may have waited for others who notify: the next ones leave it for so long. */
const SLOW_MS = 50;
const AVOID_MS = 10_000;

export class ReaderBell {
  readonly #database: Database;
  readonly #logger: LoggerLike;
  readonly #channel: string;
  readonly #closing = new AbortController();
  #pending = new Map<bigint, bigint>();
  #events = 0; // since the last round began
  #roundAt = -Infinity;
  #ringing: Promise<void> | undefined;
  /** From when on a commit may tell readers, by performance.now(). */
  #mayRingAt = -Infinity;

  constructor(database: Database, logger: LoggerLike, channel: string = database.names.readersChannel) {
    this.#database = database;
    this.#logger = logger;
    this.#channel = channel;
  }

  /**
   * Runs a statement that commits something. `mayRing`: the commit may tell readers, which saves them a round trip.
   * `rung`: of how many streams it has told them.
   */
  async commit<T>(
    statement: (mayRing: boolean) => Promise<T>,
    rung: (this: void, result: T) => number,
  ): Promise<T> {
    const began = performance.now();
    if (this.#ringing || began < this.#mayRingAt) return statement(false);
    let streams: number | undefined;
    try {
      const result = await statement(true);
      streams = rung(result);
      return result;
    } finally {
      if (streams !== 0) this.#rang(streams, performance.now() - began);
    }
  }

  /** Something was committed, of so many events: `head` is the stream's last offset as far as we know. */
  ring(incarnation: bigint, head: bigint, events = 1): void {
    this.#events += events;
    if ((this.#pending.get(incarnation) ?? -1n) < head) this.#pending.set(incarnation, head);
    this.#ringing ??= this.#rounds();
  }

  /** Resolves when what was rung is sent. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#ringing;
  }

  // `streams` is undefined where the commit failed, maybe while it waited.
  #rang(streams: number | undefined, tookMs: number): void {
    this.#leaveFor(tookMs > SLOW_MS ? AVOID_MS : QUIET_MS);
    if (streams !== undefined) report('sluice:readers.notified', () => ({ channel: this.#channel, streams }));
  }

  #leaveFor(ms: number): void {
    this.#mayRingAt = Math.max(this.#mayRingAt, performance.now() + ms);
  }

  async #rounds(): Promise<void> {
    await Promise.resolve(); // what moved together is told together
    while (this.#pending.size > 0) {
      const heads = this.#pending;
      this.#pending = new Map();
      const at = performance.now();
      const restMs = restFor(this.#events / (at - this.#roundAt));
      this.#events = 0;
      this.#roundAt = at;
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
      this.#leaveFor(QUIET_MS);
      await nap(jittered(restMs, random()), this.#closing.signal).done;
    }
    this.#ringing = undefined;
  }
}

/** Milliseconds to rest when so many events come in each: above 2 000 a second more of them share a notification. */
export const restFor = (perMs: number): number => Math.min(MAX_REST_MS, Math.max(MIN_REST_MS, perMs));

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
