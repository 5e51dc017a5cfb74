// The telemetry of Sluice: named points on node:diagnostics_channel, free while nobody subscribes. Tests wait on the
// same messages that users get. docs/operations.md lists them.
import { channel } from 'node:diagnostics_channel';

export type DiagnosticsName =
  | 'sluice:append.committed' // { streams, events, ms }
  | 'sluice:background.failed' // { where, error, label? }
  | 'sluice:bus.lagged' // { channel, buffer }
  | 'sluice:bus.malformed' // { channel, processId, reason, bytes }
  | 'sluice:listener.beat' // { queueUsage, roundTripMs }
  | 'sluice:listener.connected' // { generation, channels }
  | 'sluice:listener.lost' // { generation, error }
  | 'sluice:poll.finished' // { behind, stale }
  | 'sluice:readers.notified' // { streams }
  | 'sluice:relay.asleep' // { dueInMs }
  | 'sluice:relay.passed' // { moved, more, ms, by: 'relay' | 'poll' }
  | 'sluice:relay.refused' // { count }
  | 'sluice:relay.role' // { held }
  | 'sluice:relay.rotated' // { slot }
  | 'sluice:replica.read' // { offset, used }
  | 'sluice:retention.enforced' // { trimmed, removed, held, ms }
  | 'sluice:retention.purged' // { events, more, ms }
  | 'sluice:sse.closed' // { connectionId, reason }
  | 'sluice:sse.opened' // { connectionId, stream }
  | 'sluice:tail.closed' // { stream }
  | 'sluice:tail.started' // { stream, head }
  | 'sluice:tail.woken'; // { stream, head, events }

/** Publishes to a diagnostics channel; `details` is only built while somebody listens. */
export function report(name: DiagnosticsName, details: () => object): void {
  const point = channel(name);
  if (point.hasSubscribers) point.publish(details());
}
