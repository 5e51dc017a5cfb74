// The telemetry of Sluice: named points on node:diagnostics_channel, free while nobody subscribes. Tests wait on the
// same messages that users get. docs/operations.md lists them.
import { channel, type Channel } from 'node:diagnostics_channel';

const NAMES = [
  'sluice:append.committed', // { streams, events, ms }
  'sluice:background.failed', // { where, error, label? }
  'sluice:bus.failed', // { channel, error }
  'sluice:bus.lagged', // { channel, buffer }
  'sluice:bus.malformed', // { channel, processId, reason, bytes }
  'sluice:ephemerals.delivered', // { messages }
  'sluice:group.claimed', // { stream, group, events, more, ms }
  'sluice:group.failed', // { stream, group, offset, attempt, events, error }
  'sluice:group.died', // { stream, group, events }
  'sluice:group.joined', // { stream, group, members }
  'sluice:group.lost', // { stream, group, error }
  'sluice:group.missed', // { stream, group, events }
  'sluice:group.paused', // { stream, group, failures, pauseMs }
  'sluice:group.settled', // { stream, group }
  'sluice:listener.beat', // { queueUsage, roundTripMs }
  'sluice:listener.connected', // { generation, channels }
  'sluice:listener.lost', // { generation, error }
  'sluice:poll.finished', // { behind, stale }
  'sluice:presence.changed', // { stream, changes }
  'sluice:presence.renewed', // { connections }
  'sluice:readers.notified', // { channel, streams }
  'sluice:relay.asleep', // { dueInMs }
  'sluice:relay.passed', // { moved, more, ms, by: 'relay' | 'poll' }
  'sluice:relay.refused', // { count }
  'sluice:relay.role', // { held }
  'sluice:relay.rotated', // { slot }
  'sluice:replica.read', // { offset, used }
  'sluice:retention.enforced', // { trimmed, removed, held, ms }
  'sluice:retention.purged', // { events, more, ms }
  'sluice:sse.closed', // { connectionId, reason }
  'sluice:sse.dropped', // { connectionId, ephemerals }
  'sluice:sse.opened', // { connectionId, streams }
  'sluice:stats.expired', // { rows }
  'sluice:stats.recorded', // { instance, run, sequence, rows }
  'sluice:tail.closed', // { stream }
  'sluice:tail.started', // { stream, head }
  'sluice:tail.woken', // { stream, head, events }
] as const;

export type DiagnosticsName = (typeof NAMES)[number];

// Held for ever, from the start. Node itself holds a channel only while it has subscribers, and (before nodejs/node#59910)
// the finalizer of one that was collected takes its name from whoever has it by then: a subscriber would go deaf.
const points = Object.fromEntries(NAMES.map((name) => [name, channel(name)])) as Record<
  DiagnosticsName,
  Channel
>;

/** Publishes to a diagnostics channel; `details` is only built while somebody listens. */
export function report(name: DiagnosticsName, details: () => object): void {
  const point = points[name];
  if (point.hasSubscribers) point.publish(details());
}
