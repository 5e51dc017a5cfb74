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
 * The user's logger, for the background: what it throws itself, full disk or ended worker, ends nothing.
 *
 * @throws TypeError if a method is missing, which would otherwise be found out when something else has failed
 */
export function loggerOf(given: LoggerLike | undefined): LoggerLike {
  if (given === undefined) return silentLogger;
  const log =
    (level: (typeof LEVELS)[number]) =>
    (details: object, message: string): void => {
      try {
        given[level](details, message);
      } catch {
        // There is nobody left to tell; the diagnostics channels have told the same.
      }
    };
  const missing = LEVELS.find((level) => typeof given[level] !== 'function');
  if (missing !== undefined) {
    throw new TypeError(`logger has no ${missing} method; give one with ${LEVELS.join(', ')}, such as pino`);
  }
  return { debug: log('debug'), info: log('info'), warn: log('warn'), error: log('error') };
}
