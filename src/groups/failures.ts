// What a consumer does about handlers that fail: says so, and pauses after too many in a row, since what they depend on
// is down then. What becomes of the events is recorded with their leases.
import { Breaker } from './breaker.ts';
import type { Groups } from './groups.ts';
import type { ConsumeSettings } from './options.ts';
import { reportTrouble } from './reports.ts';
import type { GroupRef } from './store.ts';
import type { Outcome, Unit } from './unit.ts';

export interface FailuresOptions {
  readonly groups: Groups;
  readonly group: GroupRef;
  readonly settings: Pick<ConsumeSettings, 'breaker'>;
  onPause(): void;
  onResume(): void;
}

export class Failures {
  readonly #options: FailuresOptions;
  readonly #breaker: Breaker | undefined;
  #reopening: NodeJS.Timeout | undefined;

  constructor(options: FailuresOptions) {
    this.#options = options;
    const { breaker } = options.settings;
    this.#breaker = breaker && new Breaker(breaker.failures);
  }

  get isPaused(): boolean {
    return this.#breaker?.isOpen === true;
  }

  succeeded(): void {
    this.#breaker?.succeeded();
  }

  failed(unit: Unit, outcome: Outcome): void {
    const { groups, group, settings } = this.#options;
    const [first] = unit.items;
    const [named] = unit.failures.values();
    reportTrouble(groups, group, 'sluice:group.failed', {
      offset: named?.offset ?? first?.record.offset,
      attempt: first?.attempt,
      events: unit.items.length,
      error: outcome.kind === 'failed' ? outcome.error : named?.error,
    });
    if (!settings.breaker || this.#breaker?.failed() !== true) return;
    reportTrouble(groups, group, 'sluice:group.paused', { ...settings.breaker });
    this.#options.onPause();
    this.#reopening = setTimeout(() => {
      this.#breaker?.close();
      this.#options.onResume();
    }, settings.breaker.pauseMs);
    this.#reopening.unref();
  }

  close(): void {
    clearTimeout(this.#reopening);
  }
}
