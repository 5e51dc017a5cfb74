// The doctor's own connections: plain ones, with a bound on every statement, that say what they are. The bound is kept
// on this side, because a pooler refuses settings that are sent with the start of a connection.
import { Client } from 'pg';

const DEADLINE_MS = 10_000;

/** Opens a connection. Its later loss fails the next statement, and nothing else. */
export async function openProbe(connectionString: string): Promise<Client> {
  const client = new Client({
    connectionString,
    application_name: 'sluice doctor',
    connectionTimeoutMillis: DEADLINE_MS,
    query_timeout: DEADLINE_MS,
  });
  client.on('error', () => {});
  try {
    await client.connect();
    return client;
  } catch (error) {
    client.end().catch(() => {});
    throw error;
  }
}

/** The one row of a statement that has one. */
export async function oneRow<Row>(
  client: Client,
  text: string,
  values: readonly unknown[] = [],
): Promise<Row> {
  const { rows } = await client.query(text, [...values]);
  return rows[0] as Row;
}
