// What goes to one connection: of a batch of events, replayed or live, the one way both take (I10); and of what is
// broadcast. What is for everybody passes as it is, with its shared bytes. Faults are told to the logger, now and then,
// and never with a payload.
import type { Broadcasts } from '../ephemerals/broadcasts.ts';
import type { Batch, Frames } from '../tail/entry.ts';
import { report } from '../util/diagnostics.ts';
import type { LoggerLike } from '../util/logger.ts';
import { Seldom } from '../util/seldom.ts';
import { judgeEvent, judgeLabel, type Audiences, type Verdict, type Viewer } from './audience.ts';

/** Undefined: nothing of it is to be seen. */
export type EventFilter = (batch: Batch, viewer: Viewer, connectionId: string) => Frames | undefined;

/** The frames of what is to be seen; undefined: nothing. A grant's `visible` is for events, and not asked. */
export type BroadcastFilter = (
  messages: Broadcasts,
  viewer: Viewer,
  connectionId: string,
) => Buffer | undefined;

export interface Filters {
  readonly events: EventFilter;
  readonly broadcasts: BroadcastFilter;
}

/** One for all connections. Asks anew for each batch: what a predicate looks up may have changed. */
export function createFilters(audiences: Audiences, logger: LoggerLike): Filters {
  const tell = faultTeller(logger);
  const settle = (label: string | null, { visible, fault }: Verdict): boolean => {
    if (fault !== undefined) tell(label, fault);
    return visible;
  };
  const targeting = (viewer: Viewer, connectionId: string): ((target: Target) => boolean) => {
    const asked = new Map<string, boolean>(); // each audience once
    const belongsTo = (label: string): boolean => {
      const belongs = asked.get(label) ?? settle(label, judgeLabel(audiences, label, viewer.context));
      asked.set(label, belongs);
      return belongs;
    };
    return ({ visibleTo, exclude }) =>
      exclude !== connectionId && (visibleTo === null || belongsTo(visibleTo));
  };
  return {
    events: (batch, viewer, connectionId) => {
      if (batch.isForAll && !viewer.visible) return batch;
      const isFor = targeting(viewer, connectionId);
      return batch.only((entry) => {
        if (!isFor(entry.record)) return false;
        return settle(
          null,
          judgeEvent(viewer, () => entry.event),
        );
      });
    },
    broadcasts: (messages, viewer, connectionId) =>
      messages.isForAll ? messages.bytes : messages.only(targeting(viewer, connectionId)),
  };
}

/** Whom an event or a message is for, as its writer said. */
interface Target {
  readonly visibleTo: string | null;
  readonly exclude: string | null;
}

/** A predicate that fails does so for each event and connection. `label` is null for the grant's own. */
function faultTeller(logger: LoggerLike): (label: string | null, error: unknown) => void {
  const seldom = new Seldom<string | null>();
  return (label, error) => {
    report('sluice:background.failed', () => ({ where: 'audience', label, error }));
    if (seldom.count(label, performance.now()) === 0) return;
    const whose = label === null ? "a grant's visible" : 'an audience';
    logger.error({ error, label }, `${whose} could not be asked; what is for it is hidden`);
  };
}
