// What must not go unseen, whoever finds it out: events that a group lost to trimming, and events that it has given up.
import { report } from '../util/diagnostics.ts';
import type { Groups } from './groups.ts';
import type { Claimed, GroupRef } from './store.ts';

/** What a claim found out beside the events it took. */
export function reportClaim(groups: Groups, group: GroupRef, { missed, dead }: Claimed): void {
  if (missed > 0) {
    const facts = factsOf(group, missed);
    groups.logger.error(facts, 'events were trimmed before the group had handled them');
    report('sluice:group.missed', () => facts);
  }
  if (dead > 0) reportDead(groups, group, dead);
}

export function reportDead(groups: Groups, group: GroupRef, count: number): void {
  const facts = factsOf(group, count);
  groups.logger.error(facts, 'events were given up: see the dead letters of the group');
  report('sluice:group.died', () => facts);
}

const factsOf = ({ stream, name }: GroupRef, events: number): object => ({
  stream: stream.name,
  group: name,
  events,
});
