// What can be the address of a database. Anything else pg would take for the name of one, on a host that nobody named.

const ADDRESS = /^(?:postgres|postgresql|socket):|^\//;

export const isDatabaseUrl = (text: unknown): text is string =>
  typeof text === 'string' && ADDRESS.test(text);

/** What was given, if anything was. Never shows it, for it may hold a password. @throws TypeError */
export function databaseUrl(name: string, given: string | undefined): string | undefined {
  if (given === undefined || isDatabaseUrl(given)) return given;
  throw new TypeError(
    `${name} is no address of a database; give postgres://user:password@host:port/database`,
  );
}
