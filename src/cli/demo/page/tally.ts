// Judges the offsets the page was handed: delivered, missing, repeated, late. This is the demo's evidence for I1
// (dense offsets) and I2 (no loss, no duplicate).
//
// Pure. It must never forgive: it knows nothing of connections, so an offset lost while the page was disconnected
// counts exactly as one lost while it was live. What it keeps is bounded: one position, a few numbers and at most
// `maxHoles` ranges.

/** A range of offsets that were skipped: `from` to `to`, both included. */
export interface Hole {
  readonly from: bigint;
  readonly to: bigint;
}

export interface Tally {
  /** Counting began after this offset, so the first one expected is `after + 1`. */
  readonly after: bigint;
  /** The highest offset seen; `after` until there is one. */
  readonly last: bigint;
  /** Different offsets seen. */
  readonly delivered: number;
  /** Offsets below `last` that are missing now. */
  readonly gaps: number;
  /** Offsets seen again, or not above `after`. */
  readonly duplicates: number;
  /** Offsets that filled a hole later: present, but out of order. */
  readonly reordered: number;
  /** The holes still open, ascending. */
  readonly holes: readonly Hole[];
}

/** Beyond this many open holes the oldest is forgotten: it stays in `gaps`, and filling it counts as a duplicate. */
const maxHoles = 64;

/** Starts a count of what follows `after`. */
export function startTally(after: bigint): Tally {
  return { after, last: after, delivered: 0, gaps: 0, duplicates: 0, reordered: 0, holes: [] };
}

/** The tally after `offset` was seen. */
export function count(tally: Tally, offset: bigint): Tally {
  const next = tally.last + 1n;
  if (offset === next) return { ...tally, last: offset, delivered: tally.delivered + 1 };
  if (offset > next) {
    return {
      ...tally,
      last: offset,
      delivered: tally.delivered + 1,
      gaps: tally.gaps + Number(offset - next),
      holes: [...tally.holes, { from: next, to: offset - 1n }].slice(-maxHoles),
    };
  }
  const index = tally.holes.findIndex((hole) => hole.from <= offset && offset <= hole.to);
  const hole = tally.holes[index];
  if (!hole) return { ...tally, duplicates: tally.duplicates + 1 };
  return {
    ...tally,
    delivered: tally.delivered + 1,
    gaps: tally.gaps - 1,
    reordered: tally.reordered + 1,
    holes: [...tally.holes.slice(0, index), ...without(hole, offset), ...tally.holes.slice(index + 1)].slice(
      -maxHoles,
    ),
  };
}

function without(hole: Hole, offset: bigint): Hole[] {
  const rest = [
    { from: hole.from, to: offset - 1n },
    { from: offset + 1n, to: hole.to },
  ];
  return rest.filter(({ from, to }) => from <= to);
}
