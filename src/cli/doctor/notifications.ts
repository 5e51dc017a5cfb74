// Whether notifications arrive: the one thing a pooler breaks in silence. In transaction mode LISTEN succeeds, the
// channel is listed, and a notification one sends oneself is seen; only one from a second connection, to a listener
// that is idle, tells the truth. That some pooler stands in between is told by the process id: it makes up its own.
import { randomBytes } from 'node:crypto';
import { escapeIdentifier, type Client } from 'pg';
import { bad, ok, warn, type Finding } from './finding.ts';
import { oneRow } from './probe.ts';

const DELIVERED_WITHIN_MS = 2000;

/** What the probe needs of a connection; a pg.Client fits. */
export type ProbeClient = Pick<Client, 'query' | 'on' | 'off'>;

/** Whether the server process behind a connection is the one that the connection was told at its start. */
export async function isPooled(client: Client): Promise<boolean> {
  const { pid } = await oneRow<{ pid: number }>(client, 'select pg_backend_pid() as pid');
  return pid !== (client as Client & { readonly processID: number | null }).processID;
}

/** Whether an idle listener hears a notification that another connection sends. */
export async function hearsNotifications(
  listener: ProbeClient,
  notifier: ProbeClient,
  deadlineMs: number = DELIVERED_WITHIN_MS,
): Promise<boolean> {
  const channel = `sluice_doctor_${randomBytes(8).toString('hex')}`;
  let settle: (heard: boolean) => void = () => {};
  const outcome = new Promise<boolean>((resolve) => {
    settle = resolve;
  });
  const onNotification = (message: { readonly channel: string }): void => {
    if (message.channel === channel) settle(true);
  };
  listener.on('notification', onNotification);
  await listener.query(`listen ${escapeIdentifier(channel)}`);
  await notifier.query('select pg_notify($1, $2)', [channel, '']);
  const deadline = setTimeout(() => settle(false), deadlineMs);
  const heard = await outcome;
  clearTimeout(deadline);
  listener.off('notification', onNotification);
  await listener.query(`unlisten ${escapeIdentifier(channel)}`);
  return heard;
}

export const judgeListening = (pooled: boolean, heard: boolean): Finding => {
  if (heard) return ok('listen', `notifications arrive${pooled ? ', through a pooler in session mode' : ''}`);
  const late = `no notification arrived within ${DELIVERED_WITHIN_MS / 1000} s`;
  return pooled
    ? bad(
        'listen',
        `${late}: a pooler in transaction mode stands in between`,
        'give connect() a direct address of the server as listenConnectionString',
      )
    : bad('listen', late, 'see whether something between here and the server holds them back');
};

export async function examineListening(listener: Client, notifier: Client): Promise<Finding[]> {
  const pooled = await isPooled(listener);
  const connection = pooled
    ? ok('connection', 'through a pooler (the server process is another one than was announced)')
    : ok('connection', 'direct');
  return [connection, judgeListening(pooled, await hearsNotifications(listener, notifier))];
}

/** Past half, publishers stop ringing; a full queue fails every transaction that notifies. */
export async function examineQueue(client: Client): Promise<Finding> {
  const { usage } = await oneRow<{ usage: number }>(client, 'select pg_notification_queue_usage() as usage');
  const message = `${(usage * 100).toFixed(1)} % of the notification queue is in use`;
  const remedy =
    'end the oldest transaction of a session that listens: it keeps the queue from being emptied';
  if (usage > 0.5) return bad('notification queue', message, remedy);
  return usage > 0.1 ? warn('notification queue', message, remedy) : ok('notification queue', message);
}
