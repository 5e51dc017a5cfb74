// What can be said with a subscription of a bus.
import type { StandardSchemaV1 } from '../util/standard-schema.ts';

export interface NotifySubscribeOptions {
  /** Messages kept while the reader is busy; the oldest go first, and `lagged` says how many. Default 256, at most 1 048 576. */
  readonly buffer?: number | undefined;
  /** Before it resolves: abandons subscribing. Afterwards: ends the iteration. */
  readonly signal?: AbortSignal | undefined;
}

export interface TypedSubscribeOptions<T> extends NotifySubscribeOptions {
  /** What the payload, parsed as JSON, must fit; what does not is skipped and reported. Any Standard Schema. */
  readonly schema: StandardSchemaV1<unknown, T>;
}

export interface NotifyListenOptions {
  /** Before it resolves: abandons listening. Afterwards: closes it. */
  readonly signal?: AbortSignal | undefined;
}

export interface TypedListenOptions<T> extends NotifyListenOptions {
  /** As for `subscribe`, but it must answer at once: what a schema answers later counts as not fitting. */
  readonly schema: StandardSchemaV1<unknown, T>;
}
