// Owns the order of measurements: what is compared runs in turn, A B B A A B …, in one run, so that a machine that
// slows down half-way slows down both sides.

/**
 * Runs each measurement once per round; returns their results in the order of the rounds.
 *
 * @template T
 * @param {number} rounds
 * @param {Readonly<Record<string, () => Promise<T>>>} measurements
 * @returns {Promise<Record<string, T[]>>}
 */
export async function inTurn(rounds, measurements) {
  const names = Object.keys(measurements);
  /** @type {Record<string, T[]>} */
  const results = Object.fromEntries(names.map((name) => [name, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const result = await measurements[name]?.();
      if (result !== undefined) results[name]?.push(result);
    }
  }
  return results;
}
