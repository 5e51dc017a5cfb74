// Owns a test's own session with Postgres: a pg client that ends with its block, so that a failing test leaves no
// transaction open behind it.
import { Client } from 'pg';

/** A connected client; `await using` ends it, whatever it is in the middle of. */
export const openClient = async (connectionString: string): Promise<Client & AsyncDisposable> => {
  const client = new Client({ connectionString, application_name: 'test client' });
  client.on('error', () => {}); // tests kill backends
  await client.connect();
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.end() });
};
