// Owns what all adapters check about objects of libraries they do not import: that what was given looks like a
// transaction, and that what a statement answered holds rows.

/** Whether a value has methods of these names. */
export const hasMethods = (value: unknown, ...names: readonly string[]): boolean =>
  isObject(value) && names.every((name) => typeof value[name] === 'function');

/** Whether a value can have members: some libraries' transactions are functions. */
export const isObject = (value: unknown): value is Record<string, unknown> =>
  (typeof value === 'object' && value !== null) || typeof value === 'function';

export const unknownShape = (adapter: string, expected: string, given: unknown): TypeError =>
  new TypeError(`unknown adapter shape: ${adapter} takes ${expected}, not ${kindOf(given)}`);

const kindOf = (value: unknown): string => {
  if (typeof value !== 'object' || value === null)
    return value === null ? 'null' : `a value of type ${typeof value}`;
  const name: unknown = Object.getPrototypeOf(value)?.constructor?.name;
  return typeof name === 'string' && name !== 'Object' && name !== '' ? `a ${name}` : 'an object';
};

/** The rows of a result that is either an array of them or an object which holds one, as a plain array. */
export function rowsIn(result: unknown): { rows: unknown[] } {
  const rows = Array.isArray(result) || !isObject(result) ? result : result['rows'];
  if (!Array.isArray(rows)) {
    throw new TypeError(
      `the library answered with ${kindOf(result)} that holds no rows; is it set up to change the results of raw statements?`,
    );
  }
  return { rows: Array.from(rows as unknown[]) };
}
