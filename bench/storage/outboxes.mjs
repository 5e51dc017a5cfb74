// The candidates for the outbox, each installed in a schema of its own: how to publish, how to move what was published,
// and how to take the space back.
import { readFileSync } from 'node:fs';
import { printMigrations } from 'sluice';

/** The relay rotates when the current slot has grown to this. */
const ROTATE_AT_BYTES = 4 * 2 ** 20;

/**
 * @typedef {object} Outbox
 * @property {string} name
 * @property {string} schema
 * @property {string} install
 * @property {string} publish one event; parameters: stream, data, type
 * @property {string} pass returns moved and more
 * @property {string | undefined} rotate
 */

/** @type {readonly Outbox[]} */
export const outboxes = [
  {
    name: 'A: one table, delete',
    schema: 'one_table',
    install: withoutSlots(printMigrations('one_table')),
    ...real('one_table'),
    rotate: undefined,
  },
  {
    name: 'B: delete, truncate in turn',
    schema: 'slots',
    install: printMigrations('slots'),
    ...real('slots'),
  },
  {
    name: 'C: append-only, snapshot ticks',
    schema: 'ticks',
    install: readFileSync(new URL('ticks.sql', import.meta.url), 'utf8'),
    publish: 'select ticks.publish($1, $2, $3)',
    pass: 'select moved::integer, more from ticks.pass()',
    rotate: `select ticks.rotate_outbox(${ROTATE_AT_BYTES})`,
  },
];

/** Sluice's own functions. They ring no relay here: who moves is measured apart. @param {string} schema */
function real(schema) {
  return {
    publish: `select ${schema}.publish($1, $2, $3, null, null, true, false)`,
    pass: `select moved::integer, more from ${schema}.pass()`,
    rotate: `select ${schema}.rotate_outbox(${ROTATE_AT_BYTES})`,
  };
}

/** Sluice's own schema with an outbox of one table. @param {string} sql */
function withoutSlots(sql) {
  const partition = /create table \S+\.outbox_\d partition of [^;]+;/g;
  const partitioned = ') partition by list (slot);';
  if (sql.match(partition)?.length !== 3 || !sql.includes(partitioned)) {
    throw new Error('the outbox of the schema is not what this candidate was derived from');
  }
  return sql.replaceAll(partition, '').replace(partitioned, ');');
}
