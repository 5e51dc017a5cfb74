// Owns the environment that the server and its tools get: almost nothing. PG… variables would change what they do,
// another locale would change what they say, and under another account our secrets (DATABASE_URL, SLUICE_SECRET) would
// be there for that account to read.

const passedOn = ['PATH', 'LD_LIBRARY_PATH', 'DYLD_LIBRARY_PATH', 'NIX_LD', 'NIX_LD_LIBRARY_PATH'];

export const childEnvironment = (): Record<string, string> => {
  const environment: Record<string, string> = {
    PATH: '/usr/bin:/bin:/usr/sbin:/sbin',
    // Without a locale the server refuses to start on macOS ("became multithreaded during startup").
    LC_ALL: 'C',
    // Saves initdb from comparing every time zone there is with the clock.
    TZ: 'UTC',
  };
  for (const name of passedOn) {
    const value = process.env[name];
    if (value !== undefined) environment[name] = value;
  }
  return environment;
};
