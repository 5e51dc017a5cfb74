// What must not go unseen, whoever finds it out: events that a group lost to trimming, events that it has given up, and
// what goes wrong with a consumer.
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

const TROUBLES = {
  'sluice:group.failed': ['warn', 'a handler failed; what it was given comes again'],
  'sluice:group.paused': ['error', 'too many failures in a row: the consumer pauses'],
  'sluice:group.lost': ['warn', 'a lease was lost; its events are handed out again'],
} as const;

export function reportTrouble(
  groups: Groups,
  { stream, name }: GroupRef,
  point: keyof typeof TROUBLES,
  details: object,
): void {
  const [level, message] = TROUBLES[point];
  const facts = { stream: stream.name, group: name, ...details };
  groups.logger[level](facts, message);
  report(point, () => facts);
}

const factsOf = ({ stream, name }: GroupRef, events: number): object => ({
  stream: stream.name,
  group: name,
  events,
});
