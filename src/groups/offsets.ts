// Sets of offsets as the database takes them: the text of an int8multirange. Pure.

/** `{[1,4),[7,8)}` for 1, 2, 3 and 7, in whatever order. */
export function toMultirange(offsets: readonly bigint[]): string {
  if (offsets.length === 0) return '{}';
  const sorted = isAscending(offsets) ? offsets : offsets.toSorted((a, b) => (a < b ? -1 : 1));
  const ranges: string[] = [];
  let from = sorted[0] as bigint;
  let to = from;
  for (const offset of sorted) {
    if (offset > to + 1n) {
      ranges.push(`[${from},${to + 1n})`);
      from = offset;
    }
    to = offset;
  }
  ranges.push(`[${from},${to + 1n})`);
  return `{${ranges.join(',')}}`;
}

const isAscending = (offsets: readonly bigint[]): boolean =>
  offsets.every((offset, index) => index === 0 || (offsets[index - 1] as bigint) < offset);

/** The offsets of a multirange's text. */
export function fromMultirange(text: string): bigint[] {
  const offsets: bigint[] = [];
  for (const [, from, to] of text.matchAll(/\[(\d+),(\d+)\)/g)) {
    for (let offset = BigInt(from as string); offset < BigInt(to as string); offset += 1n)
      offsets.push(offset);
  }
  return offsets;
}
