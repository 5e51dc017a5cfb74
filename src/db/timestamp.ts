// Times as PostgreSQL reads them. A Date reaches further than four digits of a year, which it writes in a way that is not
// read: such a time is as good as the last, or the first, that is.
import { shown } from '../util/shown.ts';

const FIRST = Date.parse('0001-01-01T00:00:00Z');
const LAST = Date.parse('9999-12-31T23:59:59.999Z');

/** @throws TypeError for what is no Date, RangeError for one that is no time */
export function timestamp(name: string, date: Date): string {
  if (!(date instanceof Date)) throw new TypeError(`${name} is ${shown(date)}; give a Date`);
  const ms = date.getTime();
  if (Number.isNaN(ms)) throw new RangeError(`${name} is an invalid date; give one that is a time`);
  return new Date(Math.min(Math.max(ms, FIRST), LAST)).toISOString();
}
