// The relay role: the process that moves published events into logs as they commit, and sleeps when there are none,
// until somebody rings or the next delayed event is due.
// An optimisation and no guard: passes are safe without it, and every process polls (fallback-poll.ts), so a holder
// that is frozen or cut off costs latency only.
//
// The role and the sleep are session locks on the listener's connection: the server frees them with the session, also
// when its process is stopped, because a session that falls silent is ended (idle_session_timeout).
import type { Names } from '../db/names.ts';
import type { Listener } from '../listen/listener.ts';
import { nap } from '../util/abort.ts';
import { jittered } from '../util/backoff.ts';
import { report } from '../util/diagnostics.ts';
import type { LoggerLike } from '../util/logger.ts';
import { idlePause, restAfter, type Passed } from './pace.ts';
import type { Passes } from './pass.ts';
import type { Housekeeping } from './housekeeping.ts';
import type { Retention } from './retention.ts';
import { random } from '../util/random.ts';

/** How often a process without the role tries to get it. */
const ROLE_RETRY_MS = 1000;

export interface RelayOptions {
  readonly names: Names;
  readonly listener: Listener;
  readonly passes: Passes;
  readonly housekeeping: Housekeeping;
  readonly retention: Retention;
  readonly fallbackPollMs: number;
  readonly logger: LoggerLike;
}

export class Relay {
  readonly #options: RelayOptions;
  readonly #closing = new AbortController();
  #running: Promise<void> | undefined;
  #nap: { wake: () => void } | undefined;
  #rung = false;

  constructor(options: RelayOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Gives the role back and resolves when the last pass has ended. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { listener, logger } = this.#options;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        const generation = listener.generation;
        if (await this.#acquire()) {
          report('sluice:relay.role', () => ({ held: true }));
          await this.#hold(generation);
          report('sluice:relay.role', () => ({ held: false }));
          continue;
        }
      } catch (error) {
        logger.warn({ error }, 'the relay failed; it starts again');
        report('sluice:background.failed', () => ({ where: 'relay', error }));
      }
      await nap(jittered(ROLE_RETRY_MS, random()), signal).done;
    }
  }

  async #acquire(): Promise<boolean> {
    const { listener, names } = this.#options;
    if (!listener.connected) return false;
    // Only ever tried: a session that waits for a lock holds a snapshot, and gets no notifications.
    const [row] = await listener.query<{ got: boolean }>('select pg_try_advisory_lock($1) as got', [
      names.roleKey,
    ]);
    return row?.got === true;
  }

  // While the listener's session is the one that holds the role.
  async #hold(generation: number): Promise<void> {
    const { listener, names, retention } = this.#options;
    const unhear = listener.hear(names.relayChannel, {
      message: () => this.#ring(),
      gap: () => this.#ring(),
    });
    await listener.inForceIfConnected(names.relayChannel);
    const letting = new AbortController();
    const retaining = retention.run(letting.signal); // on its own: a pass waits for nothing of it
    try {
      while (!this.#closing.signal.aborted && listener.generation === generation && listener.connected) {
        await this.#workUntilQuiet();
        await this.#sleep(generation);
      }
    } finally {
      unhear();
      letting.abort();
      await retaining;
      if (listener.generation === generation) {
        await listener.query('select pg_advisory_unlock($1)', [names.roleKey]).catch(() => {}); // the session is gone, and the lock with it
      }
    }
  }

  #ring(): void {
    this.#rung = true;
    this.#nap?.wake();
  }

  // Until a pass finds nothing; `more` alone (a stream that somebody holds) keeps the relay awake but unhurried.
  async #workUntilQuiet(): Promise<void> {
    const { passes, housekeeping } = this.#options;
    let before: Passed | undefined;
    let began = -Infinity;
    for (let idle = 0; !this.#closing.signal.aborted;) {
      this.#rung = false;
      const beganBefore = began;
      began = performance.now();
      const result = await passes.run('relay');
      const { moved, more } = result;
      if (moved === 0 && !more) return;
      await housekeeping.rotate();
      idle = moved > 0 ? 0 : idle + 1;
      const passed = { ...result, perMs: moved / (began - beganBefore) };
      await this.#pause(restAfter(passed, before, idle), false);
      before = passed;
    }
  }

  // Sleeping is announced by holding the asleep key exclusively: a publisher that cannot share it rings. It is only
  // ever tried, because a waiting exclusive lock would turn every publisher away; it cannot be had while a publishing
  // transaction is open, and then the relay polls. After it is had, one more pass with a fresh snapshot: an event that
  // committed without ringing between the last pass and the lock is seen by it.
  async #sleep(generation: number): Promise<void> {
    const { listener, names, passes, fallbackPollMs } = this.#options;
    for (let idle = 0; !this.#closing.signal.aborted && listener.generation === generation; idle += 1) {
      const [row] = await listener.query<{ got: boolean }>('select pg_try_advisory_lock($1) as got', [
        names.asleepKey,
      ]);
      if (row?.got === true) break;
      await this.#pause(idlePause(idle), true);
      this.#rung = false; // before the pass that answers it: a ring of before must not keep this from pausing
      const { moved, more } = await passes.run('relay');
      if (moved > 0 || more) return;
    }
    if (this.#closing.signal.aborted || listener.generation !== generation) return;
    try {
      const { moved, more, dueInMs } = await passes.run('relay');
      if (moved > 0 || more || this.#rung) return;
      report('sluice:relay.asleep', () => ({ dueInMs }));
      const untilDue = dueInMs === null ? Infinity : Math.max(1, Math.ceil(dueInMs));
      await this.#pause(Math.min(jittered(fallbackPollMs, random()), untilDue), true);
    } finally {
      this.#rung = false;
      // Not awaited: the pass that the bell asked for need not wait for it. Statements of a session keep their order.
      void listener.query('select pg_advisory_unlock($1)', [names.asleepKey]).catch(() => {});
    }
  }

  async #pause(ms: number, endsOnRing: boolean): Promise<void> {
    if (endsOnRing && this.#rung) return;
    const pause = nap(ms, this.#closing.signal);
    if (endsOnRing) this.#nap = pause;
    await pause.done;
    this.#nap = undefined;
  }
}
