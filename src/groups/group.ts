// One group as users hold it. A name until it is used; the group is made on its first use.
import { checkStreamName } from '../log/encode.ts';
import type { Decode } from '../log/decode.ts';
import type { Position } from '../protocol/position.ts';
import { requirePosition } from '../tail/start.ts';
import { requireSignal, throwIfAborted, untilAborted, waitOrAbort } from '../util/abort.ts';
import { shown } from '../util/shown.ts';
import { Consumer } from './consumer.ts';
import type { BatchHandler, EventHandler } from './context.ts';
import type { Handler } from './crew.ts';
import {
  listDead,
  takeDead,
  type DeadLetter,
  type DeadLetterFilter,
  type DeadLetters,
} from './dead-letters.ts';
import type { Groups } from './groups.ts';
import type { Lease } from './lease.ts';
import {
  settleClaim,
  settleConsume,
  settleGroup,
  type ClaimOptions,
  type ConsumeOptions,
  type ConsumeSettings,
  type GroupOptions,
} from './options.ts';
import { GroupSource } from './source.ts';
import { groupStats, type GroupStats } from './stats.ts';
import type { FailurePolicy } from './store.ts';
import { takeLease } from './take-lease.ts';

/** Consumers that share the work of a stream: each event is handled by one of them, at least once. */
export interface Group<T> {
  readonly name: string;
  /**
   * Handles events one by one, `concurrency` at a time. Resolves once the signal has aborted (or the Sluice was closed)
   * and what was begun is finished or given back. What a handler throws is a failure: the event comes again, after a
   * backoff, `maxAttempts` times; then it is a dead letter. An error's `retryAt` (a Date) says when.
   *
   * @throws SluiceError stream_not_found: there is no such stream, or the stream or the group was deleted
   * @throws TypeError, RangeError for options
   * @example
   * await orders.group('billing').consume(async (event) => bill(event.data), { concurrency: 8, signal });
   */
  consume(handler: EventHandler<T>, options?: ConsumeOptions): Promise<void>;
  /**
   * Handles events in batches of up to `maxBatch`. If the handler throws, the batch is redelivered in two halves, until the
   * culprit is alone; `context.fail` names it at once.
   */
  consumeBatch(handler: BatchHandler<T>, options?: ConsumeOptions): Promise<void>;
  /**
   * Takes events under a lease, and leaves the rest to you: acknowledge, extend or release it. Null: nothing is due.
   *
   * @throws SluiceError stream_not_found; RangeError for options
   */
  claim(options?: ClaimOptions): Promise<Lease<T> | null>;
  stats(): Promise<GroupStats>;
  /** Nothing more is handed out until `resume`; what is in hand goes on. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /**
   * Continues after another position, or with the first event of a time. Leases are lost and retries dropped; dead letters
   * stay.
   *
   * @throws SluiceError cursor_expired, cursor_reset, cursor_invalid; RangeError beyond the head
   */
  seek(to: Position | Date): Promise<void>;
  /** Deletes the group, its leases, retries and dead letters. False: there was none. */
  delete(): Promise<boolean>;
  readonly deadLetters: DeadLetters<T>;
}

const DEFAULT_HELD = 1000;
const DEFAULT_BATCH = 100;

export class GroupHandle<T> implements Group<T> {
  readonly name: string;
  readonly deadLetters: DeadLetters<T>;
  readonly #groups: Groups;
  readonly #stream: string;
  readonly #decode: Decode<T>;
  readonly #source: GroupSource;
  readonly #policy: FailurePolicy;

  /** @throws SluiceError name_invalid, cursor_invalid; TypeError, RangeError */
  constructor(
    groups: Groups,
    names: { readonly stream: string; readonly group: string },
    decode: Decode<T>,
    options: GroupOptions,
  ) {
    checkStreamName(names.group, 'group name');
    const settings = settleGroup(options);
    requirePosition(settings.from);
    this.name = names.group;
    this.#groups = groups;
    this.#stream = names.stream;
    this.#decode = decode;
    this.#policy = { maxAttempts: settings.maxAttempts, ...settings.backoff };
    this.#source = new GroupSource(groups.database, names, settings);
    this.deadLetters = {
      list: (filter = {}) => untilAborted(this.#listDead(filter), filter.signal),
      requeue: async ({ offsets } = {}) => this.#takeDead('requeue_dead', offsets),
      drop: async ({ offsets } = {}) => this.#takeDead('drop_dead', offsets),
    };
  }

  async consume(handler: EventHandler<T>, options: ConsumeOptions = {}): Promise<void> {
    const settings = settleConsume(options, DEFAULT_HELD);
    await this.#consume({ kind: 'event', handle: requireFunction(handler) }, settings, options.signal);
  }

  async consumeBatch(handler: BatchHandler<T>, options: ConsumeOptions = {}): Promise<void> {
    const settings = settleConsume(options, DEFAULT_BATCH);
    const { maxBatch } = settings;
    await this.#consume(
      { kind: 'batch', handle: requireFunction(handler), maxBatch },
      settings,
      options.signal,
    );
  }

  async claim(options: ClaimOptions = {}): Promise<Lease<T> | null> {
    const asked = settleClaim(options);
    const { signal } = options;
    throwIfAborted(signal);
    this.#groups.requireOpen();
    const parts = { groups: this.#groups, decode: this.#decode, policy: this.#policy, signal };
    return waitOrAbort(
      this.#source.run(async (group) => takeLease({ ...parts, ...asked, group })),
      signal,
    );
  }

  async stats(): Promise<GroupStats> {
    const { database } = this.#groups;
    const stats = await this.#source.run(async (group) => groupStats(database, group));
    if (stats) return stats;
    this.#source.forget();
    return this.stats(); // deleted meanwhile: it is made again, or its stream is gone
  }

  async pause(): Promise<void> {
    await this.#pause(true);
  }

  async resume(): Promise<void> {
    await this.#pause(false);
  }

  async seek(to: Position | Date): Promise<void> {
    const { database } = this.#groups;
    await this.#source.runAnew(async ({ id }) => {
      const after = await this.#source.offsetOf(to);
      const text = `select ${database.names.quoted}.seek_group($1, $2)`;
      await database.query(text, [String(id), String(after)]);
      this.#groups.look(id);
    });
  }

  async delete(): Promise<boolean> {
    const { database } = this.#groups;
    const [row] = await database.query<{ deleted: boolean }>(
      `select ${database.names.quoted}.delete_group($1, $2) as deleted`,
      [this.#stream, this.name],
    );
    this.#source.forget();
    return row?.deleted === true;
  }

  async #consume(
    handler: Handler<T>,
    settings: ConsumeSettings,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    this.#groups.requireOpen();
    requireSignal(signal);
    if (signal?.aborted === true) return;
    const parts = { groups: this.#groups, decode: this.#decode, policy: this.#policy };
    await this.#source.run(async (group) =>
      new Consumer<T>({ ...parts, group, handler, settings }).run(signal),
    );
  }

  async *#listDead(filter: DeadLetterFilter): AsyncGenerator<DeadLetter<T>, void, undefined> {
    const group = await this.#source.runAnew(async (found) => Promise.resolve(found));
    yield* listDead<T>(this.#groups.database, group, filter);
  }

  #takeDead(action: 'requeue_dead' | 'drop_dead', offsets: readonly bigint[] | undefined): Promise<number> {
    return this.#source.runAnew(async (group) => {
      const count = await takeDead(this.#groups.database, { group, action, offsets });
      if (count > 0 && action === 'requeue_dead') this.#groups.look(group.id);
      return count;
    });
  }

  async #pause(paused: boolean): Promise<void> {
    const { database } = this.#groups;
    await this.#source.runAnew(async ({ id }) => {
      await database.query(`select ${database.names.quoted}.pause_group($1, $2)`, [String(id), paused]);
      if (!paused) this.#groups.look(id);
    });
  }
}

function requireFunction<F>(handler: F): F {
  if (typeof handler === 'function') return handler;
  throw new TypeError(`the handler is ${shown(handler)}; give a function`);
}
