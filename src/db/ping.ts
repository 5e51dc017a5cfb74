// Whether the database answers, soon enough to be told to a probe: asked once at a time, however many want to know, so
// that those who ask take no connections from those who work.
import { deadline } from '../util/deadline.ts';
import { deferred } from '../util/deferred.ts';
import type { Database } from './database.ts';

/** A server that takes longer counts as down, in milliseconds. */
const ANSWER_WITHIN_MS = 2000;

/** @returns what asks: false while the database is away, refuses, or has not answered within two seconds */
export function createPing(database: Database): () => Promise<boolean> {
  let asked: Promise<boolean> | undefined;
  const ask = async (): Promise<boolean> => {
    try {
      await database.ping(ANSWER_WITHIN_MS);
      return true;
    } catch {
      return false;
    } finally {
      asked = undefined;
    }
  };
  return async () => {
    const late = deferred<false>();
    const settle = deadline(ANSWER_WITHIN_MS, () => late.resolve(false));
    try {
      return await Promise.race([(asked ??= ask()), late.promise]);
    } finally {
      settle();
    }
  };
}
