// Sending notifications, always over the query side: over the listener one's own would prove nothing, and would wait
// behind its heartbeats.
import type { Database } from '../db/database.ts';
import { driverErrorOf } from '../db/driver-error.ts';
import { SluiceError } from '../util/errors.ts';

const QUEUE_FULL = '54000';

/** Resolves when it is committed. @throws SluiceError overloaded, connection_lost, permission_denied */
export async function notify(database: Database, channel: string, payload: string): Promise<void> {
  try {
    await database.query('select pg_notify($1, $2)', [channel, payload], 'sluice_notify');
  } catch (error) {
    if (!(error instanceof SluiceError) || driverErrorOf(error.cause).code !== QUEUE_FULL) throw error;
    throw new SluiceError(
      'overloaded',
      "the server's queue of notifications is full: a session that listens has kept a transaction open; end it (npx sluice doctor names the usage)",
      { cause: error.cause },
    );
  }
}

/** Sends unless the server's queue is filling up; whether it did. For what can be left out. */
export async function notifyIfRoom(database: Database, channel: string, payload: string): Promise<boolean> {
  const sent = await database.query(
    'select pg_notify($1, $2) where pg_notification_queue_usage() < 0.5',
    [channel, payload],
    'sluice_notify_if_room',
  );
  return sent.length > 0;
}
