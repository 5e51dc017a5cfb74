// The keys of a keyed group that a consumer wants nothing of for now, lest an event overtake another of its key: keys of
// which an event failed or went back, until no claim can be under way that does not know of it; and keys that are stuck in
// a handler, while what was queued behind them went back.
import type { Unit } from './unit.ts';

export interface KeyGuardOptions {
  /** The claim under way. */
  claiming(): Promise<void> | undefined;
  /** A key is free again: there may be something of it. */
  onFree(): void;
}

export class KeyGuard {
  readonly #options: KeyGuardOptions;
  readonly #held = new Map<string, Promise<unknown>>();
  readonly #stuck = new Set<string>();

  constructor(options: KeyGuardOptions) {
    this.#options = options;
  }

  /** To be left out of a claim. */
  get blocked(): string[] {
    return [...this.#held.keys(), ...this.#stuck];
  }

  /** Whether an event that was just handed out must go back. */
  refuses(key: string | null): boolean {
    return key !== null && this.#held.has(key);
  }

  /** Nothing of these keys is begun until the database was told what has become of them. */
  hold(keys: readonly (string | null)[], told: Promise<unknown>): void {
    for (const key of new Set(keys)) {
      if (key === null) continue;
      // What is claimed meanwhile may have been handed out before.
      const known = Promise.all([told, this.#held.get(key)]).then(async () => this.#options.claiming());
      this.#held.set(key, known);
      void this.#letGo(key, known);
    }
  }

  stick(keys: readonly string[]): void {
    for (const key of keys) this.#stuck.add(key);
  }

  unstick({ items }: Unit): void {
    const freed = items.filter(({ key }) => key !== null && this.#stuck.delete(key));
    if (freed.length > 0) this.#options.onFree();
  }

  async #letGo(key: string, known: Promise<unknown>): Promise<void> {
    await known;
    if (this.#held.get(key) !== known) return;
    this.#held.delete(key);
    this.#options.onFree();
  }
}
