// What the methods of a stream can be asked for beside their subject.
import type { SqlExecutor } from '../db/queryable.ts';
import type { Position } from '../protocol/position.ts';

interface AudienceOptions {
  /**
   * Who may see it over HTTP: a label of 1 to 128 bytes that the handler's `audiences` decides on; a label it does not
   * know is seen by nobody there. Default: everybody who may read the stream. `read` and `subscribe` see everything.
   */
  readonly visibleTo?: string | undefined;
  /**
   * Not sent to this connection: the `connectionId` of its `sluice:open`, such as the one whose request causes the event.
   * Null and undefined: sent to all. It spares an echo and is no protection: the client's next connection has another id.
   */
  readonly exclude?: string | null | undefined;
}

interface WriteOptions extends AudienceOptions {
  readonly type?: string | undefined;
  readonly key?: string | undefined;
  readonly headers?: Record<string, string> | undefined;
  /**
   * 1 to 255 bytes. What is written to the stream under one key within its window (24 hours by default) is written once;
   * the events of one call share its key.
   */
  readonly idempotencyKey?: string | undefined;
  /** Stops waiting; what was already sent may still be committed. */
  readonly signal?: AbortSignal | undefined;
}

export interface AppendOptions extends WriteOptions {
  /**
   * The offset that the first event must get: the head you have seen, plus one. Rejects with `offset_conflict`, which
   * carries the actual `head`, when something was written meanwhile. A repeated idempotency key counts as written.
   */
  readonly expectedOffset?: bigint | undefined;
}

export interface PublishOptions extends WriteOptions {
  /** The caller's open transaction: a pg client fits. Without it, publish is a transaction of its own. */
  readonly tx?: SqlExecutor | undefined;
  /** Not before this time. A time that is past: at once. */
  readonly deliverAt?: Date | undefined;
  /** Not before so many milliseconds from now, by the database's clock; at most `maxDelayMs`. */
  readonly delayMs?: number | undefined;
}

export interface BroadcastOptions extends AudienceOptions {
  readonly type?: string | undefined;
  /** Stops waiting; what was already sent is still delivered. */
  readonly signal?: AbortSignal | undefined;
}

export interface ReadOptions {
  /** Strictly after this; default 'start'. */
  readonly after?: Position | undefined;
  /** Events at most, 1 to 1 000; default 1 000. */
  readonly limit?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface SubscribeOptions {
  /** Strictly after this; default 'start'. */
  readonly after?: Position | undefined;
  /** Ends the iteration normally. */
  readonly signal?: AbortSignal | undefined;
}
