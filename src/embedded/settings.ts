// Owns the server's settings: the defaults we add, the ones that are ours alone because the promises of the launcher
// rest on them (loopback only, no sockets in the file system, our password), and their form on the command line.

/** Statements that fail are their client's business: without them the log stays small. */
const defaults: Readonly<Record<string, string>> = { log_min_messages: 'log' };

const ours = new Set([
  'listen_addresses',
  'port',
  'unix_socket_directories',
  'data_directory',
  'config_file',
  'hba_file',
  'ident_file',
  'external_pid_file',
]);

/** @throws TypeError for a name that is none, or that is the launcher's own */
export const checkSettings = (settings: Readonly<Record<string, string>>): void => {
  for (const name of Object.keys(settings)) {
    if (!/^[a-z_][a-z0-9_.]*$/i.test(name))
      throw new TypeError(`${JSON.stringify(name)} is no name of a setting`);
    if (ours.has(name.toLowerCase()))
      throw new TypeError(`The setting ${name} cannot be given: it is the launcher's own`);
  }
};

/** Arguments for `postgres`; the ones we need stand last and win. */
export const settingArguments = (settings: Readonly<Record<string, string>>, port: number): string[] => {
  const all = {
    ...defaults,
    ...settings,
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: '',
  };
  return Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
};
