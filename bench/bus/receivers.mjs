// Who receives beside whom: a bare client and the bus in loops, and where asked the bus by handlers.
import { inTurn } from '../support/rounds.mjs';

/** @typedef {import('../bus.mjs').Receiver} Receiver */

/**
 * Results in the order of the rounds; of handlers none, unless they are measured.
 *
 * @template T
 * @param {number} rounds
 * @param {boolean} withHandlers
 * @param {(how: Receiver) => Promise<T>} measure
 * @returns {Promise<Record<Receiver, T[]>>}
 */
export async function besideBare(rounds, withHandlers, measure) {
  const {
    bare = [],
    loops = [],
    handlers = [],
  } = await inTurn(rounds, {
    bare: () => measure('bare'),
    loops: () => measure('loops'),
    ...(withHandlers && { handlers: () => measure('handlers') }),
  });
  return { bare, loops, handlers };
}
