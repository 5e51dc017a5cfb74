// Owns the answer to "is the server ready?": when a connection with our password succeeds, and never before. Text in
// the log or in a file is no answer.
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';

const recheckMs = 5;
/** Time for the crash recovery of a large cluster. */
const readyWithinMs = 60_000;
/** A server that was not ours and refused our password would by now have made our own server fail. */
const refusalsBeforeGivingUp = 100;
const wrongPassword = '28P01';

const tryConnect = async (connectionString: string): Promise<Error | undefined> => {
  const client = new Client({ connectionString, ssl: false, connectionTimeoutMillis: 2_000 });
  // The server may end the connection at any time; the attempt itself rejects.
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.end();
    return undefined;
  } catch (error) {
    client.end().catch(() => undefined);
    return error as Error;
  }
};

/** Resolves once a connection has succeeded, or as soon as `hasEnded` says that there is no use in waiting. */
export const waitUntilReady = async (
  connectionString: string,
  hasEnded: () => boolean,
  signal: AbortSignal | undefined,
): Promise<void> => {
  const givesUpAt = performance.now() + readyWithinMs;
  let refusals = 0;
  while (!hasEnded()) {
    signal?.throwIfAborted();
    const error = await tryConnect(connectionString);
    if (error === undefined) return;
    if ((error as { code?: unknown }).code === wrongPassword) refusals += 1;
    if (refusals > refusalsBeforeGivingUp || performance.now() > givesUpAt) {
      throw new Error(`no connection to it succeeded: ${error.message}`, { cause: error });
    }
    await delay(recheckMs);
  }
};
