// Owns telling growth from noise in a series of measurements: the Theil–Sen line, which a few outliers do not bend.
// Pure.

export interface Point {
  readonly x: number;
  readonly y: number;
}

export interface Trend {
  /** Of y for each x. */
  readonly slope: number;
  /** What that comes to from the first x to the last. */
  readonly growth: number;
  readonly median: number;
}

const medianOf = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const [low = 0, high = 0] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]];
  return (low + high) / 2;
};

/** @throws RangeError for fewer than three points, or none apart */
export const trendOf = (points: readonly Point[]): Trend => {
  const slopes = points.flatMap((a, index) =>
    points.slice(index + 1).flatMap((b) => (a.x === b.x ? [] : [(b.y - a.y) / (b.x - a.x)])),
  );
  if (points.length < 3 || slopes.length === 0) throw new RangeError('three points make a trend, at least');
  const slope = medianOf(slopes);
  const xs = points.map(({ x }) => x);
  const growth = slope * (Math.max(...xs) - Math.min(...xs));
  return { slope, growth, median: medianOf(points.map(({ y }) => y)) };
};
