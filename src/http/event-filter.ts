// What of a batch goes to one connection, replayed or live: the one way both take (I10). A batch that is for everybody
// passes as it is, with its shared bytes. Faults are told to the logger, now and then, and never with a payload.
import type { Batch, Frames } from '../tail/entry.ts';
import { report } from '../util/diagnostics.ts';
import type { LoggerLike } from '../util/logger.ts';
import { judgeEvent, judgeLabel, type Audiences, type Verdict, type Viewer } from './audience.ts';

/** A predicate that fails does so for each event and connection: one line a minute says it as well. */
const TELL_EVERY_MS = 60_000;
/** Labels remembered for that, at most: writers choose them. */
const MAX_TOLD = 100;

/** Undefined: nothing of it is to be seen. */
export type EventFilter = (batch: Batch, connectionId: string) => Frames | undefined;

export class EventFilters {
  readonly #audiences: Audiences;
  readonly #logger: LoggerLike;
  readonly #told = new Map<string | null, number>();

  constructor(audiences: Audiences, logger: LoggerLike) {
    this.#audiences = audiences;
    this.#logger = logger;
  }

  /** Asks anew for each batch: what a predicate looks up may have changed. Within one an audience is asked once. */
  forViewer(viewer: Viewer): EventFilter {
    return (batch, connectionId) => {
      if (batch.isForAll && !viewer.visible) return batch;
      const belongs = new Map<string, boolean>();
      const isMember = (label: string): boolean => {
        const known = belongs.get(label);
        if (known !== undefined) return known;
        const answer = this.#settle(label, judgeLabel(this.#audiences, label, viewer.context));
        belongs.set(label, answer);
        return answer;
      };
      return batch.only((entry) => {
        const { visibleTo, exclude } = entry.record;
        if (exclude === connectionId || (visibleTo !== null && !isMember(visibleTo))) return false;
        return this.#settle(
          null,
          judgeEvent(viewer, () => entry.event),
        );
      });
    };
  }

  /** `label` is null for the grant's own predicate. */
  #settle(label: string | null, { visible, fault }: Verdict): boolean {
    if (fault !== undefined) this.#tell(label, fault);
    return visible;
  }

  #tell(label: string | null, error: unknown): void {
    report('sluice:background.failed', () => ({ where: 'audience', label, error }));
    const now = performance.now();
    if (now - (this.#told.get(label) ?? -Infinity) < TELL_EVERY_MS) return;
    if (this.#told.size >= MAX_TOLD) this.#told.clear();
    this.#told.set(label, now);
    const whose = label === null ? "a grant's visible" : 'an audience';
    this.#logger.error({ error, label }, `${whose} could not be asked; its events are hidden`);
  }
}
