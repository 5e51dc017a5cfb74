// Numbers that users give, and the bounds they are held to. NaN and texts are none.
import { shown } from './shown.ts';

type Bounds = readonly [least: number, most: number];

/** @throws RangeError */
export function within(name: string, value: number, [least, most]: Bounds): number {
  if (typeof value === 'number' && value >= least && value <= most) return value;
  throw new RangeError(`${name} is ${shown(value)}; give a number from ${least} to ${most}`);
}

/** @throws RangeError */
export function wholeWithin(name: string, value: number, [least, most]: Bounds): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new RangeError(`${name} is ${shown(value)}; give a whole number from ${least} to ${most}`);
}
