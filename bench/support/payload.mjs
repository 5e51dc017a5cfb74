// Owns the events that are written: orders whose JSON has exactly 200 bytes, so that rates and sizes can be compared.
const BYTES = 200;
const NOTE = 'left at the door, signed for by a neighbour, and paid for in advance by card; ';

/**
 * @param {number} writer distinguishes who wrote it
 * @param {number} n
 */
export function payload(writer, n) {
  const order = {
    id: `${writer}-${n}`,
    customer: 4711,
    total: 129.5,
    status: 'paid',
    at: process.hrtime.bigint().toString(),
  };
  const missing = BYTES - JSON.stringify({ ...order, note: '' }).length;
  return { ...order, note: NOTE.repeat(2).slice(0, missing) };
}
