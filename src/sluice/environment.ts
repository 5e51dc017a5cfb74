// The environment as the library's defaults see it; empty where there is no process.

export const environment = (): Readonly<Record<string, string | undefined>> =>
  typeof process === 'undefined' ? {} : process.env;

/** Of this process; 0 where there is none. */
export const processId = (): number => (typeof process === 'undefined' ? 0 : process.pid);
