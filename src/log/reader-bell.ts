// Wakes readers in every process after a commit: NOTIFY in a statement of its own, whose failure is harmless (readers
// poll), coalesced over all streams while one is under way. Payloads name streams and heads; readers never believe
// them, they only read sooner.
import type { Database } from '../db/database.ts';
import { report } from '../util/diagnostics.ts';
import { jittered } from '../util/backoff.ts';
import { nap } from '../util/abort.ts';
import { parseBase36 } from '../protocol/cursor.ts';
import type { LoggerLike } from '../util/logger.ts';
import { random } from '../util/random.ts';

/** Streams named in one round; past that, the payload says only that something is new. */
const MAX_STREAMS = 2000;
const MAX_PAYLOAD_BYTES = 7000; // NOTIFY takes 7 999
/** Rest between two rounds, so that a busy process does not notify for every commit: at least, and at most. */
const MIN_REST_MS = 2;
const MAX_REST_MS = 10;

export class ReaderBell {
  readonly #database: Database;
  readonly #logger: LoggerLike;
  readonly #channel: string;
  readonly #closing = new AbortController();
  #pending = new Map<bigint, bigint>();
  #events = 0; // since the last round began
  #roundAt = -Infinity;
  #ringing: Promise<void> | undefined;

  constructor(database: Database, logger: LoggerLike, channel: string = database.names.readersChannel) {
    this.#database = database;
    this.#logger = logger;
    this.#channel = channel;
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

  async #rounds(): Promise<void> {
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
      await nap(jittered(restMs, random()), this.#closing.signal).done;
    }
    this.#ringing = undefined;
  }
}

/** Milliseconds to rest when so many events come in each: above 2 000 a second more of them share a notification. */
export const restFor = (perMs: number): number => Math.min(MAX_REST_MS, Math.max(MIN_REST_MS, perMs));

/** Payloads: `incarnation:head` in base 36, separated by commas. An empty payload means "any stream". */
export function encodeHeads(heads: ReadonlyMap<bigint, bigint>): string[] {
  if (heads.size > MAX_STREAMS) return [''];
  const payloads: string[] = [];
  let payload = '';
  for (const [incarnation, head] of heads) {
    const entry = `${incarnation.toString(36)}:${head.toString(36)}`;
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
    const [, incarnation, head] = /^([0-9a-z]{1,13}):([0-9a-z]{1,13})$/.exec(entry) ?? [];
    if (incarnation === undefined || head === undefined) return undefined;
    heads.push({ incarnation: parseBase36(incarnation), head: parseBase36(head) });
  }
  return heads;
}
