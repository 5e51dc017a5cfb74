// Owns how results look: tables for people, JSON for machines. Every report carries the machine and the flush time,
// because a figure without them means nothing.

/**
 * @typedef {object} Table
 * @property {string} title
 * @property {string[]} columns
 * @property {(string | number | null)[][]} rows
 */

/**
 * @typedef {object} Target
 * @property {string} what
 * @property {number} [atLeast]
 * @property {number} [atMost] for what is better when it is less
 * @property {number} measured
 */

/**
 * @typedef {object} Report what a benchmark returns
 * @property {Table[]} tables
 * @property {Target[]} [targets]
 * @property {string[]} [notes]
 */

/** Three significant digits are more than these figures can bear. @param {number} value */
export const round = (value) =>
  Number.isFinite(value) ? Number(value >= 1000 ? value.toFixed(0) : value.toPrecision(3)) : null;

/** @param {number} value 12 345 rather than 12345 */
const grouped = (value) =>
  value >= 10_000 ? String(value).replaceAll(/\B(?=(\d{3})+$)/g, ' ') : String(value);

/** @param {string | number | null} cell */
const toText = (cell) => (cell === null ? '' : typeof cell === 'number' ? grouped(cell) : cell);

/** A table as Markdown, so that it can go into bench/README.md as it is. @param {Table} table */
export function markdown({ title, columns, rows }) {
  const lines = [
    columns,
    columns.map((_, index) => (index === 0 ? '---' : '--:')),
    ...rows.map((row) => row.map(toText)),
  ];
  const widths = columns.map((_, index) => Math.max(...lines.map((line) => line[index]?.length ?? 0)));
  const pad = (/** @type {string} */ cell, /** @type {number} */ index) =>
    index === 0 ? cell.padEnd(widths[index] ?? 0) : cell.padStart(widths[index] ?? 0);
  return `\n### ${title}\n\n${lines.map((line) => `| ${line.map(pad).join(' | ')} |`).join('\n')}\n`;
}

/** @param {Target} target */
export const verdict = ({
  what,
  atLeast = Number.NEGATIVE_INFINITY,
  atMost = Number.POSITIVE_INFINITY,
  measured,
}) => {
  const met = measured >= atLeast && measured <= atMost;
  const target = Number.isFinite(atMost) ? `at most ${atMost}` : `at least ${atLeast}`;
  return `${met ? 'met' : 'MISSED'}: ${what}: ${round(measured)} (target: ${target})`;
};

/** @param {Report} report */
export const toTextReport = ({ tables, targets = [], notes = [] }) =>
  [...tables.map(markdown), ...notes, ...targets.map(verdict)].join('\n');
