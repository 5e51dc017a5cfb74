// Which database is meant, said without its password: for error messages.

/** Host, port and database of a connection string. */
export function describeTarget(connectionString: string | undefined): string {
  if (connectionString === undefined) return 'the database named by the PG… environment variables';
  try {
    const url = new URL(connectionString);
    return `${url.hostname}:${url.port === '' ? '5432' : url.port}${url.pathname}`;
  } catch {
    return 'the database';
  }
}
