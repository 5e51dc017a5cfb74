// One stream on a line, and who reads it there.
import type { LossItem, Member } from './item.ts';
import type { Reading } from './request.ts';
import type { Subscriber } from './subscriber.ts';

export interface Feed extends Reading {
  position?: string;
  head?: bigint;
  /** The last event told. */
  seen: bigint;
  /** History that is gone: told with the id that follows the notice. */
  loss?: LossItem | undefined;
  /** Who is present; undefined while the server has not said. */
  members?: ReadonlyMap<string, Member>;
  readonly subscribers: Set<Subscriber>;
}

export const createFeed = (stream: string, after: string): Feed => ({
  stream,
  after,
  seen: 0n,
  subscribers: new Set(),
});
