// Owns what tabs have in common, without a browser: locks that are held, waited for and stolen as Web Locks are. Node
// brings the channels. For what depends on which tab does what first; the rest is tested in a browser.
import { afterAll, beforeAll, vi } from 'vitest';
import type { Locks, LockWish } from '../../src/client/tabs/browser.ts';

interface Request {
  readonly grant: () => void;
  readonly refuse: (reason: Error) => void;
}

export interface ScriptedLocks extends Locks {
  /** Requests that wait for a lock of this name. */
  waiting(name: string): number;
  /** Requests that wait. */
  all(): number;
  /** What is stolen is told only when these are called, if there is a list. */
  news: (() => void)[] | undefined;
  /** Refuses all requests from now on, as browsers do where an origin is opaque. */
  refuse: boolean;
}

const createLocks = (): ScriptedLocks => {
  const held = new Map<string, Request>();
  const queues = new Map<string, Request[]>();
  const queueOf = (name: string): Request[] => {
    const queue = queues.get(name) ?? [];
    queues.set(name, queue);
    return queue;
  };
  const next = (name: string): void => {
    if (!held.has(name)) queueOf(name).shift()?.grant();
  };
  const locks: ScriptedLocks = {
    news: undefined,
    all: () => [...queues.values()].flat().length,
    refuse: false,
    waiting: (name) => queueOf(name).length,
    request: (name, { signal, steal }: LockWish, callback) =>
      new Promise<void>((resolve, reject) => {
        const aborted = new DOMException('stolen, or not wanted any more', 'AbortError');
        if (locks.refuse) return reject(new DOMException('refused', 'SecurityError'));
        if (signal?.aborted) return reject(aborted);
        const request: Request = {
          grant: () => {
            held.set(name, request);
            void hold(request);
          },
          refuse: reject,
        };
        const hold = async (request: Request): Promise<void> => {
          try {
            await callback();
            resolve();
          } catch (error) {
            reject(error);
          }
          if (held.get(name) === request) held.delete(name);
          next(name);
        };
        signal?.addEventListener('abort', () => {
          const queue = queueOf(name);
          if (!queue.includes(request)) return;
          queue.splice(queue.indexOf(request), 1);
          reject(aborted);
        });
        if (steal) {
          const robbed = held.get(name);
          const tell = (): void => robbed?.refuse(aborted);
          if (locks.news) locks.news.push(tell);
          else tell();
          return request.grant();
        }
        queueOf(name).push(request);
        next(name);
      }),
  };
  return locks;
};

/** Makes the process of a test file look like a browser to the client. Every client in it is a tab. */
export const useTabs = (): ScriptedLocks => {
  const locks = createLocks();
  beforeAll(() => {
    vi.stubGlobal('window', new EventTarget());
    vi.stubGlobal('navigator', { locks });
  });
  afterAll(() => {
    vi.unstubAllGlobals();
  });
  return locks;
};
