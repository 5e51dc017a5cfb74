// The whole examination, in the order in which a fault explains the next one. What cannot be looked at is a finding of
// its own and keeps nothing else from being looked at. Changes nothing in the database.
import type { Client } from 'pg';
import { messageOf } from '../../util/errors.ts';
import type { Target } from '../target.ts';
import { examineTransactions } from './activity.ts';
import { examineOutbox, examineRelay, examineUndeliverable } from './backlog.ts';
import { bad, warn, type Finding } from './finding.ts';
import { examineListening, examineQueue } from './notifications.ts';
import { examinePrivileges } from './privileges.ts';
import { openProbe } from './probe.ts';
import { examineSchema } from './schema-status.ts';
import { examineClock, examineIdleTimeout, examineServer } from './server.ts';

export async function examine(target: Target): Promise<Finding[]> {
  const clients: Client[] = [];
  try {
    for (let count = 0; count < 2; count += 1) clients.push(await openProbe(target.connectionString));
  } catch (error) {
    await Promise.all(clients.map((client) => client.end()));
    const remedy = `see whether that server runs, and whether ${target.source} is right`;
    return [bad('connection', `no connection: ${connectMessage(error)}`, remedy)];
  }
  try {
    return await examineWith(clients[0] as Client, clients[1] as Client, target);
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}

async function examineWith(client: Client, second: Client, target: Target): Promise<Finding[]> {
  const { schema } = target;
  const findings = [
    ...(await looked('connection', () => examineListening(client, second))),
    ...(await looked('server', () => examineServer(client))),
    ...(await looked('clock', () => examineClock(client))),
    ...(await looked('idle_session_timeout', () => examineIdleTimeout(client))),
    ...(await looked('notification queue', () => examineQueue(client))),
    ...(await looked('transactions', () => examineTransactions(client))),
    ...(await looked('privileges', () => examinePrivileges(client, schema))),
    ...(await looked('schema', () => examineSchema(client, target))),
  ];
  if (findings.at(-1)?.level !== 'ok') return findings;
  return [
    ...findings,
    ...(await looked('outbox', () => examineOutbox(client, schema))),
    ...(await looked('relay', () => examineRelay(client, schema))),
    ...(await looked('undeliverable', () => examineUndeliverable(client, schema))),
  ];
}

async function looked(name: string, look: () => Promise<Finding | Finding[]>): Promise<Finding[]> {
  try {
    return [await look()].flat();
  } catch (error) {
    return [
      warn(name, `cannot be looked at: ${messageOf(error)}`, 'ask as a user who may, such as the owner'),
    ];
  }
}

// An AggregateError (IPv6 and IPv4 both refused) has an empty message of its own.
const connectMessage = (error: unknown): string =>
  error instanceof AggregateError ? error.errors.map(messageOf).join(', ') : messageOf(error);
