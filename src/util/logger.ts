// The shape of a logger; pino fits as it is. Sluice is silent unless it is given one, and never writes to the console.

export interface LoggerLike {
  debug(details: object, message: string): void;
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
}

const ignore = (): void => {};
const LEVELS = ['debug', 'info', 'warn', 'error'] as const;

export const silentLogger: LoggerLike = Object.freeze({
  debug: ignore,
  info: ignore,
  warn: ignore,
  error: ignore,
});

/**
 * The user's logger as background work calls it: what it throws itself (a full disk, a worker that has ended) ends nothing,
 * and a level that it does not have stays silent.
 *
 * @throws TypeError for one without any of the levels, or with something else than a function as one: better now than when
 * there is a failure to tell
 */
export function loggerOf(given: LoggerLike | undefined): LoggerLike {
  if (given === undefined || given === null) return silentLogger;
  const log =
    (level: (typeof LEVELS)[number]) =>
    (details: object, message: string): void => {
      try {
        given[level](details, message);
      } catch {
        // There is nobody left to tell; the diagnostics channels have told the same.
      }
    };
  const has = LEVELS.filter((level) => given[level] !== undefined);
  if (has.length === 0 || has.some((level) => typeof given[level] !== 'function')) {
    throw new TypeError(`the logger is none; give one with ${LEVELS.join(', ')}, such as pino`);
  }
  return { ...silentLogger, ...Object.fromEntries(has.map((level) => [level, log(level)])) };
}
