// Owns the processes of a benchmark: one role each, started by the benchmark, called over its IPC channel, and gone
// when the benchmark goes, however that ends.
import { fork } from 'node:child_process';
import { once } from 'node:events';

/**
 * @typedef {object} Role
 * @property {(method: string, ...args: any[]) => Promise<any>} call runs one of the methods it serves
 * @property {() => Promise<void>} stop resolves when its process has ended
 */

/**
 * Starts bench/roles/<name>.mjs and calls its `open` with the arguments.
 *
 * @param {string} name
 * @param {...unknown} args
 * @returns {Promise<Role>}
 */
export async function startRole(name, ...args) {
  const child = fork(new URL(`../roles/${name}.mjs`, import.meta.url), {
    serialization: 'advanced',
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  /** @type {Map<number, { resolve: (value: unknown) => void, reject: (error: Error) => void }>} */
  const calls = new Map();
  let lastId = 0;
  child.on('message', (/** @type {any} */ { id, result, error }) => {
    const call = calls.get(id);
    calls.delete(id);
    if (error === undefined) call?.resolve(result);
    else call?.reject(new Error(`${name}: ${error}`));
  });
  const ended = once(child, 'exit');
  child.on('exit', (code) => {
    for (const { reject } of calls.values()) reject(new Error(`the ${name} process ended with code ${code}`));
    calls.clear();
  });
  /** @type {Role['call']} */
  const call = (method, ...parameters) =>
    new Promise((resolve, reject) => {
      lastId += 1;
      calls.set(lastId, { resolve, reject });
      child.send({ id: lastId, method, parameters });
    });
  await call('open', ...args);
  const stop = async () => {
    await call('close').catch(() => {}); // it may have ended already
    if (child.connected) child.disconnect();
    await ended;
  };
  return { call, stop };
}

/**
 * In the role's own process: answers calls with these methods. `open` is called first and `close` last.
 *
 * @param {Readonly<Record<string, (...args: any[]) => unknown>>} methods
 */
export function serve(methods) {
  process.on('disconnect', () => process.exit());
  process.on('message', (/** @type {any} */ { id, method, parameters }) => {
    void answer(id, async () => methods[method]?.(...parameters));
  });
}

/** @param {number} id @param {() => Promise<unknown>} work */
async function answer(id, work) {
  try {
    process.send?.({ id, result: await work() });
  } catch (error) {
    process.send?.({ id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  }
}
