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
 * The user's logger, for the background: what it throws itself, full disk or ended worker, ends nothing. A level that it
 * does not have stays silent.
 *
 * @throws TypeError for one that has none of them, or something else in its place, which would otherwise be found out when
 * something else has failed
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
