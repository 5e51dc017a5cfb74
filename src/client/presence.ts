// Who is present on a stream, kept from the server's notices. Loaded by the first connection that asks for them.
import type { Feed } from './feed.ts';
import type { Member, PresenceItem, Wire } from './item.ts';

/** Takes a notice in and tells everybody who reads the stream. */
export function takePresence(feed: Feed, told: Wire): void {
  feed.members = present(feed.members, told);
  for (const subscriber of feed.subscribers) subscriber.push(presenceOf(feed));
}

export const presenceOf = ({ stream, members }: Feed): PresenceItem => ({
  kind: 'presence',
  stream,
  members: [...(members?.values() ?? [])],
});

/** Who is present after a notice, by id; those that stay keep their place. Pure. */
export function present(
  before: ReadonlyMap<string, Member> | undefined,
  { kind, member, members = member ? [member] : [] }: Pick<Wire, 'kind' | 'member' | 'members'>,
): ReadonlyMap<string, Member> {
  const after = new Map(kind === 'state' ? [] : before);
  for (const each of members) {
    if (kind === 'leave') after.delete(each.id);
    else after.set(each.id, each);
  }
  return after;
}
