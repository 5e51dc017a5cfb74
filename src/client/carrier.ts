// Whatever has the streams of subscribers read: over connections of this page, or through another tab.
import type { Problem } from './state.ts';
import type { Settings } from './settings.ts';
import type { Status } from './status.ts';
import type { Subscriber } from './subscriber.ts';

export interface Carrier {
  /** Delivers to the subscriber from where it stands, until it is over, which it may be already. */
  attach(subscriber: Subscriber): void;
  detach(subscriber: Subscriber): void;
  /** For when no subscriber is left. */
  close(): void;
}

/** What other ways of carrying are made of; they are loaded apart, and bring none of this themselves. */
export interface Parts {
  readonly Lines: new (settings: Settings, onStatus: (status: Status) => void) => Carrier;
  readonly Subscriber: typeof Subscriber;
  readonly errorOf: (problem: Problem) => Error;
}
