// Which server a connection goes to, host and port, without connecting: tells whether a user's client or pool takes the
// same way as ours. Statements stay prepared only there; another way may lead through a pooler that forgets them, and
// an error of ours inside a user's transaction would abort it.
import { Client } from 'pg';

/** Undefined when it cannot be told. */
export function endpointOf(connection: object | undefined): string | undefined {
  if (!connection) return undefined;
  if ('host' in connection && typeof connection.host === 'string' && 'port' in connection) {
    return `${connection.host}:${Number(connection.port)}`; // a client, or options without a connection string
  }
  try {
    const { host, port } = new Client(connection);
    return `${host}:${port}`;
  } catch {
    return undefined;
  }
}
