// Everything in the database whose name depends on the schema Sluice is installed in: quoted identifiers, advisory
// lock keys, notification channels. Two installations in one database must never share a key or a channel; two
// processes of one installation must always agree, so all of it is derived from the schema's name alone
// (advisory locks and channels are already private to a database).
import { createHash } from 'node:crypto';

export interface Names {
  readonly schema: string;
  /** The schema as a quoted SQL identifier. */
  readonly quoted: string;
  /** Advisory key held by the relay while it sleeps; publishers try it shared. */
  readonly asleepKey: bigint;
  /** Advisory key held by the session of the process that has the relay role. */
  readonly roleKey: bigint;
  /** Advisory key under which what has come due is moved, by one transaction at a time. */
  readonly dueKey: bigint;
  /** Advisory key under which readers are told within a commit, by one transaction at a time. */
  readonly ringKey: bigint;
  /** First half of the two-part advisory keys under which missing streams are created. */
  readonly createKey: number;
  /** Advisory key under which migrations run, one process at a time. */
  readonly migrateKey: bigint;
  /** Tells apart what two installations leave on one connection, such as prepared statements. */
  readonly suffix: string;
  /** Setting of a transaction: the place of what it has delayed, among what others delay to the same time. */
  readonly firstDelayedSetting: string;
  /** Wakes the relay. */
  readonly relayChannel: string;
  /** Wakes readers: some streams have something new. */
  readonly readersChannel: string;
  /** Wakes readers of ephemerals. */
  readonly ephemeralsChannel: string;
  /** Tells members of groups what is taken, and what is to be had. */
  readonly groupsChannel: string;
}

export const quoteIdent = (name: string): string => `"${name.replaceAll('"', '""')}"`;
const quoteLiteral = (text: string): string =>
  text.includes('\\')
    ? ` E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
    : `'${text.replaceAll("'", "''")}'`;

/** @throws RangeError for a schema name PostgreSQL would cut or refuse. */
export function namesFor(schema: string): Names {
  if (
    schema === '' ||
    Buffer.byteLength(schema) > 63 ||
    /[\p{Cc}\p{Cs}]/u.test(schema) ||
    schema.startsWith('pg_')
  ) {
    throw new RangeError(
      `schema name ${JSON.stringify(schema)} cannot be used: give 1 to 63 bytes that do not start with pg_, without control characters and lone surrogates`,
    );
  }
  const digest = (purpose: string): Buffer =>
    createHash('sha256').update(`sluice ${purpose} ${schema}`).digest();
  const suffix = digest('channel').toString('hex', 0, 8);
  return Object.freeze({
    schema,
    quoted: quoteIdent(schema),
    asleepKey: digest('asleep').readBigInt64BE(),
    roleKey: digest('role').readBigInt64BE(),
    dueKey: digest('due').readBigInt64BE(),
    ringKey: digest('ring').readBigInt64BE(),
    createKey: digest('create').readInt32BE(),
    migrateKey: digest('migrate').readBigInt64BE(),
    suffix,
    firstDelayedSetting: `sluice.first_delayed_${suffix}`,
    relayChannel: `sluice_relay_${suffix}`,
    readersChannel: `sluice_readers_${suffix}`,
    ephemeralsChannel: `sluice_ephemerals_${suffix}`,
    groupsChannel: `sluice_groups_${suffix}`,
  });
}

/**
 * Fills the placeholders of a file under sql/: `:"schema"` (identifier), `:'schema'` (its name as a literal),
 * `:'schema.x'` (a qualified name as a literal, for regclass), `:asleep_key`, `:due_key`, `:ring_key`, `:create_key`,
 * `:'relay_channel'`, `:'readers_channel'`, `:'ephemerals_channel'`, `:'first_delayed_setting'`.
 */
export function renderSql(sql: string, names: Names): string {
  // The body delimiter must not occur in the schema's name, which is rendered inside bodies.
  let tag = 'sluice';
  while (names.schema.includes(`$${tag}$`)) tag += '_';
  const values: Readonly<Record<string, string>> = {
    $$: `$${tag}$`,
    ':"schema"': names.quoted,
    ":'schema'": quoteLiteral(names.schema),
    ":'first_delayed_setting'": quoteLiteral(names.firstDelayedSetting),
    ":'relay_channel'": quoteLiteral(names.relayChannel),
    ":'readers_channel'": quoteLiteral(names.readersChannel),
    ":'ephemerals_channel'": quoteLiteral(names.ephemeralsChannel),
    ':asleep_key': `(${names.asleepKey}::bigint)`,
    ':due_key': `(${names.dueKey}::bigint)`,
    ':ring_key': `(${names.ringKey}::bigint)`,
    ':create_key': `(${names.createKey})`,
  };
  // In one go: what is filled in may look like a placeholder itself.
  return sql.replace(
    /\$\$|:"schema"|:'schema\.(\w+)'|:'\w+'|:(?:asleep|due|ring|create)_key\b/g,
    (placeholder, relation: string | undefined) =>
      relation === undefined
        ? (values[placeholder] ?? placeholder)
        : quoteLiteral(`${names.quoted}.${relation}`),
  );
}
