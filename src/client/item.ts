// What a subscription yields, and how the data of a frame becomes it. Pure.

/** One event, once. */
export interface EventItem<T = unknown> {
  readonly kind: 'event';
  readonly stream: string;
  readonly offset: bigint;
  /**
   * Resumes the subscription, with all its streams, just after this event. Undefined only in a subscription of several
   * streams that were refused together, while one of them has not begun: where that one starts is not known yet.
   */
  readonly cursor: string | undefined;
  readonly type: string | null;
  readonly key: string | null;
  readonly data: T;
  readonly at: Date;
}

/**
 * History that is gone: trimmed away (`gap`), or another history than the one read so far (`reset`: the stream was
 * created again, or the database lost what was read). What follows begins at `oldest`; after a reset drop what was built
 * from the events before.
 */
export interface LossItem {
  readonly kind: 'gap' | 'reset';
  readonly stream: string;
  readonly reason: string;
  /** The offset that was stood on. */
  readonly requested: bigint;
  readonly oldest: bigint;
  readonly head: bigint;
  /** Resumes the subscription, with all its streams, behind the loss. Undefined where that of an event would be. */
  readonly cursor: string | undefined;
}

/** An ephemeral: sent to whoever is connected, never stored, never resumed. */
export interface BroadcastItem<T = unknown> {
  readonly kind: 'broadcast';
  readonly stream: string;
  readonly type: string | null;
  readonly data: T;
}

/** Who is present on a stream now, after every change. */
export interface PresenceItem {
  readonly kind: 'presence';
  readonly stream: string;
  readonly members: readonly Member[];
}

/** Someone present: several connections of one id are one member, with the state that the newest says. */
export interface Member {
  readonly id: string;
  readonly state: unknown;
}

export type StreamItem<T = unknown> = EventItem<T> | LossItem | BroadcastItem<T> | PresenceItem;

/** What the data of our frames may hold; docs/protocol.md says which frame holds what. */
export interface Wire {
  readonly connectionId?: string;
  readonly streams: readonly { readonly name: string; readonly head: string }[];
  readonly retryMs?: number;
  readonly stream: string;
  readonly offset: string;
  readonly type: string | null;
  readonly key: string | null;
  readonly data: unknown;
  readonly at: string;
  readonly reason: string;
  readonly requested: string;
  readonly oldest: string;
  readonly head: string;
  readonly resumedAt: string;
  readonly kind: string;
  readonly members?: readonly Member[];
  readonly member?: Member;
}

export const eventItem = (told: Wire, cursor: string): EventItem => ({
  ...told,
  kind: 'event',
  offset: BigInt(told.offset),
  cursor,
  at: new Date(told.at),
});

export const lossItem = (kind: LossItem['kind'], told: Wire): LossItem => ({
  ...told,
  kind,
  requested: BigInt(told.requested),
  oldest: BigInt(told.oldest),
  head: BigInt(told.head),
  cursor: told.resumedAt,
});
