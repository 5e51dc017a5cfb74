// What Prometheus is told of groups: what the consumers of this process have done, and how far the groups are that are
// consumed here. The second is the database's to tell: asked by a scrape, seldom, once at a time, and not waited for long.
import { groupPositions, type GroupPosition } from '../groups/positions.ts';
import { coreOf, type Sluice } from '../sluice/connect.ts';
import { deadline } from '../util/deadline.ts';
import { report } from '../util/diagnostics.ts';
import { MAX_GROUPS, type GroupActivity, type GroupCounts } from './group-activity.ts';
import { counter, gauge, type Metric } from './metric.ts';

/** An answer is given again for so long, however many scrapes there are, in milliseconds. */
const KEEP_MS = 10_000;
/** How long a scrape waits for one. */
const WAIT_MS = 2000;

type Positions = () => Promise<readonly GroupPosition[]>;

/** Of the groups that are consumed through this Sluice now, the first so many. Empty while the database does not answer. */
export function positionsOf(sluice: Sluice): Positions {
  const { groups, database, settings } = coreOf(sluice);
  const look = async (): Promise<readonly GroupPosition[]> => {
    const consumed = groups.consumed.slice(0, MAX_GROUPS);
    return consumed.length === 0 ? [] : groupPositions(database, consumed);
  };
  const failed = (error: unknown): readonly GroupPosition[] => {
    settings.logger.warn({ error }, 'how far groups are could not be read for metrics');
    report('sluice:background.failed', () => ({ where: 'group metrics', error }));
    return [];
  };
  const seldom = keptFor(KEEP_MS, async () => look().catch(failed));
  return async () => {
    let settle = (): void => {};
    const late = new Promise<readonly GroupPosition[]>((resolve) => {
      settle = deadline(WAIT_MS, () => resolve([]));
    });
    const positions = await Promise.race([seldom(), late]);
    settle();
    return positions;
  };
}

/** Asks once at a time, and anew once an answer is so old. `look` never rejects. */
export function keptFor<T>(
  ms: number,
  look: () => Promise<T>,
  now: () => number = () => performance.now(),
): () => Promise<T> {
  let kept: { readonly answer: Promise<T>; until: number } | undefined;
  return async () => {
    if (kept && now() < kept.until) return kept.answer;
    const asked = { answer: look(), until: Infinity };
    kept = asked;
    void asked.answer.then(() => (asked.until = now() + ms));
    return asked.answer;
  };
}

export function groupMetrics(activity: GroupActivity, positions: Positions): Metric[] {
  type Count = Exclude<keyof GroupCounts, 'stream' | 'group'>;
  const each = (name: string, help: string, count: Count): Metric =>
    counter(`sluice_group_${name}_total`, help, () =>
      activity.counts.map(({ stream, group, [count]: value }) => ({
        labels: { stream: stream ?? '', group: group ?? '' },
        value,
      })),
    );
  const now = (name: string, help: string, valueOf: (position: GroupPosition) => number): Metric =>
    gauge(`sluice_group_${name}`, help, async () =>
      (await positions()).map((position) => ({
        labels: { stream: position.stream, group: position.group },
        value: valueOf(position),
      })),
    );
  return [
    each('claims', 'Times that consumers asked for events.', 'claims'),
    each('events', 'Events handed out to consumers, once for each attempt.', 'events'),
    each('failures', 'Calls of handlers that failed.', 'failures'),
    each('dead_events', 'Events given up.', 'dead'),
    each('lost_leases', 'Leases that were over before their events were.', 'lost'),
    each('missed_events', 'Events trimmed before they were handled.', 'missed'),
    now('unclaimed_events', 'Events that no consumer was handed yet.', ({ unclaimed }) => unclaimed),
    now('unclaimed_age_seconds', 'Age of the first of them; 0 without any.', ({ ageMs }) => ageMs / 1000),
    now('paused', 'Whether the group is paused.', ({ paused }) => Number(paused)),
  ];
}
