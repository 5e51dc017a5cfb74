// Owns tabs that can be frozen, thawed and crashed, without a browser: while one is frozen no message, no bytes and no word
// of its locks reaches it; who thaws gets them in any order; of one that has crashed nothing is heard, and its locks fall
// free. Whatever a client takes from its surroundings when it is made belongs to the tab that was opened last.
import type { FetchLike } from 'sluice/client';
import { afterAll, beforeAll, vi } from 'vitest';
import type { Locks, LockWish } from '../../src/client/tabs/browser.ts';
import { deferred, type Deferred } from '../../src/util/deferred.ts';
import type { Random } from './seed.ts';
import { useTabs } from './scripted-tabs.ts';

export const turn = (): Promise<void> => new Promise((done) => setImmediate(done));
const never = new Promise<never>(() => {});

export class FrozenTab {
  readonly random: Random;
  /** Channels opened by its client: it is there from the second on. */
  channels = 0;
  isCrashed = false;
  readonly crashed: Deferred<void> = deferred();
  #frozen: Deferred<void> | undefined;

  constructor(random: Random) {
    this.random = random;
  }

  get isFrozen(): boolean {
    return this.#frozen !== undefined;
  }
  freeze(): void {
    this.#frozen ??= deferred();
  }
  thaw(): void {
    this.#frozen?.resolve();
    this.#frozen = undefined;
  }
  crash(): void {
    this.isCrashed = true;
    this.crashed.resolve();
    this.thaw();
  }
  /** Resolves when it runs, now or later. */
  async awake(): Promise<void> {
    while (this.#frozen) await this.#frozen.promise;
    if (this.isCrashed) await never;
  }
  /** The same, some turns later. */
  async reached(): Promise<void> {
    for (let left = this.random.below(3); left > 0; left -= 1) await turn();
    await this.awake();
  }

  /** Bytes reach the client only while it is awake. */
  readonly fetchFrom =
    (fetch: FetchLike): FetchLike =>
    async (address, init) => {
      await this.awake();
      const response = await fetch(address, init);
      await this.awake();
      const reader = response.body?.getReader();
      if (!reader) return response;
      void this.crashed.promise.then(() => reader.cancel().catch(() => {}));
      const pull = async (controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> => {
        await this.awake();
        const { value } = await reader.read();
        await this.awake();
        if (value) controller.enqueue(value);
        else controller.close();
      };
      const body = new ReadableStream({ pull, cancel: () => reader.cancel() }, { highWaterMark: 0 });
      return new Response(body, response);
    };
}

type Listener = (event: { readonly data: unknown }) => void;
const channels = new Map<string, Set<FrozenChannel>>();

class FrozenChannel {
  readonly #tab: FrozenTab;
  readonly #name: string;
  readonly #waiting: unknown[] = [];
  #listener: Listener | undefined;
  #isHearing = false;

  constructor(name: string, tab: FrozenTab) {
    this.#name = name;
    this.#tab = tab;
    tab.channels += 1;
    channels.set(name, (channels.get(name) ?? new Set()).add(this));
  }

  postMessage(message: unknown): void {
    if (this.#tab.isCrashed) return;
    for (const other of channels.get(this.#name) ?? [])
      if (other !== this) void other.#hear(structuredClone(message));
  }
  addEventListener(_: 'message', listener: Listener): void {
    this.#listener = listener;
  }
  close(): void {
    channels.get(this.#name)?.delete(this);
    this.#listener = undefined;
  }

  async #hear(message: unknown): Promise<void> {
    this.#waiting.push(message);
    if (this.#isHearing) return;
    this.#isHearing = true;
    while (this.#waiting.length > 0) {
      await this.#tab.reached();
      this.#listener?.({ data: this.#waiting.shift() });
    }
    this.#isHearing = false;
  }
}

const locksOf = (tab: FrozenTab, locks: Locks): Locks => ({
  request: async (name, { signal, steal }: LockWish, callback) => {
    const held = async (): Promise<void> => {
      await tab.awake();
      await callback();
    };
    try {
      const wish = { ...(signal && { signal }), ...(steal && { steal }) };
      await locks.request(name, wish, () => Promise.race([held(), tab.crashed.promise]));
    } catch (error) {
      await tab.reached();
      throw error;
    }
  },
});

/** Makes the process of a test file look like a browser. What is returned opens a tab: clients are made in it until the next. */
export const useFrozenTabs = (): ((random: Random) => FrozenTab) => {
  const locks = useTabs();
  let last: FrozenTab | undefined;
  const browser = {
    get locks() {
      return last && locksOf(last, locks);
    },
  };
  const { BroadcastChannel } = globalThis;
  beforeAll(() => {
    vi.stubGlobal('navigator', browser);
    Object.defineProperty(globalThis, 'BroadcastChannel', {
      configurable: true,
      get: () => {
        const tab = last!;
        return class extends FrozenChannel {
          constructor(name: string) {
            super(name, tab);
          }
        };
      },
    });
  });
  afterAll(() => {
    Object.defineProperty(globalThis, 'BroadcastChannel', { configurable: true, value: BroadcastChannel });
  });
  return (random) => (last = new FrozenTab(random));
};
