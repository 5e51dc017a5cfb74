// What can be the address of a database. Anything else pg would take for the name of one, on a host that nobody named, or
// refuse with an error that shows it, password and all.

const ADDRESS = /^(?:postgres|postgresql|socket):|^\//;

export const isDatabaseUrl = (text: unknown): text is string =>
  typeof text === 'string' && ADDRESS.test(text) && (text.startsWith('/') || canBeRead(text));

/** As pg reads it: spaces and lone percent signs are taken as they are, and no host is that of the machine. */
const canBeRead = (text: string): boolean =>
  [text, encodeURI(text), text.replace('@/', '@localhost/')].some((each) => URL.canParse(each));

/** For an error: what is wrong with what was given under this name. Does not show it. */
export const noDatabaseUrl = (name: string): string =>
  `${name} is no address of a database; give postgres://user:password@host:port/database, where a password has %23 for #, %2F for /, %40 for @`;

/** What was given, if anything was. Never shows it, for it may hold a password. @throws TypeError */
export function databaseUrl(name: string, given: string | undefined): string | undefined {
  if (given === undefined || isDatabaseUrl(given)) return given;
  throw new TypeError(noDatabaseUrl(name));
}
