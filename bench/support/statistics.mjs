// Owns the arithmetic of the benchmarks: medians, percentiles, and ratios of paired rounds. Pure.

/** @param {readonly number[]} values @param {number} part from 0 to 1 */
export const percentile = (values, part) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
};

/** @param {readonly number[]} values */
export const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
};

/**
 * How `ours` compares with `raw`, round by round: what loads the machine for a whole round cancels out.
 *
 * @param {readonly number[]} ours
 * @param {readonly number[]} raw
 */
export const compare = (ours, raw) => {
  const ratios = ours.map((value, index) => value / (raw[index] ?? Number.NaN));
  return {
    ours: median(ours),
    raw: median(raw),
    ratio: median(ratios),
    worst: Math.min(...ratios),
    best: Math.max(...ratios),
  };
};
