// What those who hear a channel of a bus are told, and what is counted of it.

export interface NotifyMessage<T = undefined> {
  readonly kind: 'message';
  /** As it was sent; empty if there was none. */
  readonly payload: string;
  /** What the schema made of the payload's JSON. */
  readonly data: T;
  /** The server process that sent it. */
  readonly processId: number;
}

/** The reader was too slow: so many messages are missing here. */
export interface NotifyLag {
  readonly kind: 'lagged';
  readonly missed: number;
}

/** A new session listens from here on: anything may have been sent in between. Read again what you keep up with. */
export interface NotifyGap {
  readonly kind: 'gap';
  readonly generation: number;
}

/** What a subscription gives; `data` is there with a schema. */
export type Notification<T = undefined> = NotifyMessage<T> | NotifyLag | NotifyGap;

/** Counted over all subscriptions of a bus, those by handlers included. */
export interface Tally {
  messages: number;
  missed: number;
  gaps: number;
  malformed: number;
  failed: number;
}
