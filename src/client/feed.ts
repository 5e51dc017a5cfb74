// One stream on a line, and who reads it there.
import type { LossItem, Member, PresenceItem } from './item.ts';
import type { Reading } from './request.ts';
import type { Subscriber } from './subscriber.ts';

export class Feed implements Reading {
  readonly stream: string;
  readonly after: string;
  position: string | undefined;
  head: bigint | undefined;
  /** History that is gone: told with the id that follows the notice. */
  loss: LossItem | undefined;
  /** Who is present; undefined while the server has not said. */
  members: ReadonlyMap<string, Member> | undefined;
  readonly subscribers: Set<Subscriber> = new Set<Subscriber>();

  constructor(stream: string, after: string) {
    this.stream = stream;
    this.after = after;
  }

  add(subscriber: Subscriber): void {
    this.subscribers.add(subscriber);
    if (this.members) subscriber.push(presenceOf(this));
  }
}

export const presenceOf = ({ stream, members }: Feed): PresenceItem => ({
  kind: 'presence',
  stream,
  members: [...(members?.values() ?? [])],
});
