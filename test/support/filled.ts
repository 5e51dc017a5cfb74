// Owns streams that tests of groups begin with: new ones, with so many events in them.
import type { Sluice, Stream } from 'sluice';
import { upTo } from './up-to.ts';

/** In one call of `appendMany`. */
const MAX_BATCH = 10_000;
let made = 0;

/** A new stream with the numbers 1 to `count`; `keyOf` gives them keys. */
export async function fill(
  sluice: Sluice,
  count: number,
  keyOf?: (n: number) => string | undefined,
): Promise<Stream<number>> {
  const stream = sluice.stream<number>(`filled ${(made += 1)}`);
  await sluice.createStream(stream.name);
  const events = upTo(count).map((n) => ({ data: n, key: keyOf?.(n) }));
  for (let from = 0; from < count; from += MAX_BATCH)
    await stream.appendMany(events.slice(from, from + MAX_BATCH));
  return stream;
}
