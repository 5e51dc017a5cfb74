// A bound on what waits in this process, in events and in bytes of their JSON. Counts only; whoever waits gives back.
import { SluiceError } from '../util/errors.ts';

export interface BudgetOptions {
  readonly maxEvents: number;
  readonly maxBytes: number;
}

export class Budget {
  readonly #options: BudgetOptions;
  #events = 0;
  #bytes = 0;

  constructor(options: BudgetOptions) {
    this.#options = options;
  }

  /** Returns how to give it back, once. One that is alone always fits. @throws SluiceError overloaded */
  take(events: number, bytes: number): () => void {
    const { maxEvents, maxBytes } = this.#options;
    const fits = this.#events + events <= maxEvents && this.#bytes + bytes <= maxBytes;
    if (this.#events > 0 && !fits) {
      const waiting = `${this.#events} events (${this.#bytes} bytes)`;
      throw new SluiceError('overloaded', `${waiting} wait for a schema's answer already; write more slowly`);
    }
    this.#events += events;
    this.#bytes += bytes;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#events -= events;
      this.#bytes -= bytes;
    };
  }
}
