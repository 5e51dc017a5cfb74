// Owns the process that stands between us and PostgreSQL, and outlives us: a shell that holds one end of a pipe. When
// our end closes, because we asked for it or because we are gone (SIGKILL included), it shuts the server down, harder
// the longer that takes, and removes a temporary folder. It is detached from the terminal, so that a Ctrl-C there
// reaches us and not the server, which our clean shutdown still needs.
// A secret passes through the pipe: never through arguments, environment or a file.
import { spawn } from 'node:child_process';
import { writeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { deferred } from '../util/deferred.ts';
import { credentials, type Account } from './account.ts';
import { childEnvironment } from './environment.ts';

/** How long each of SIGINT (fast shutdown), SIGQUIT (immediate) and SIGKILL is given, in tenths of a second. */
const tenthsPerSignal = 40;

// - `read` and `printf` are built into the shell, so the secret is in no argument list.
// - The signal is repeated, because a server in its first milliseconds ignores it.
// - The watcher is a process of its own, which still does its work when the shell above it is killed.
// - `wait` also returns when the shell itself gets a signal: the server counts as gone when it cannot be signalled.
const script = `
when=$1 folder=$2
shift 2
read -r secret <&3
printf '%s\\n' "$secret" | "$@" 3<&- &
server=$!
secret=
(
  read -r _ <&3
  for signal in INT QUIT KILL; do
    tenths=0
    while [ $tenths -lt ${tenthsPerSignal} ]; do
      kill -$signal $server || exit 0
      sleep 0.1
      tenths=$((tenths + 1))
    done
  done
) 2>/dev/null &
watcher=$!
exec 3<&-
trap 'kill -INT $server' HUP INT TERM
while :; do
  wait $server
  code=$?
  kill -0 $server 2>/dev/null || break
done
kill -KILL $watcher 2>/dev/null
wait $watcher 2>/dev/null
if [ "$when" = always ] || { [ "$when" = failed ] && [ $code -ne 0 ]; }; then rm -rf -- "$folder"; fi
exit $code
`;

export interface GuardedCommand {
  readonly command: string;
  readonly args: readonly string[];
  readonly account: Account | undefined;
  /** Gets what the command writes. */
  readonly logFd: number;
  /** Handed on as descriptor 4: see `dataArgument` in data-folder.ts. */
  readonly folderFd?: number | undefined;
  /** One line for the command's standard input. */
  readonly secret?: string | undefined;
  /** Removed once the command has ended. */
  readonly remove?: { readonly folder: string; readonly when: 'always' | 'failed' } | undefined;
}

export interface Exit {
  /** The command's; 128 and its number for a signal. `null` when the guard itself was killed or could not start. */
  readonly code: number | null;
}

export interface Guard {
  readonly exited: Promise<Exit>;
  /** Set once `exited` has resolved. */
  readonly exit: Exit | undefined;
  /** Shuts the command down; idempotent. Keeps our process alive until it has ended. */
  readonly end: () => void;
  /** Lets our process end without waiting for the command, which then goes with it. */
  readonly unref: () => void;
}

export const startGuarded = ({
  command,
  args,
  account,
  logFd,
  folderFd,
  secret,
  remove,
}: GuardedCommand): Guard => {
  const child = spawn(
    '/bin/sh',
    ['-c', script, 'sh', remove?.when ?? 'never', remove?.folder ?? '', command, ...args],
    {
      ...credentials(account),
      // The account may not be allowed to be where we are.
      cwd: '/',
      detached: true,
      env: childEnvironment(),
      stdio: ['ignore', logFd, logFd, 'pipe', folderFd ?? 'ignore'],
    },
  );
  const pipe = child.stdio[3] as Socket;
  // A guard that is already gone: its exit says so.
  pipe.on('error', () => pipe.destroy());
  // Nothing comes but the end, which closes the socket.
  pipe.resume();
  pipe.write(`${secret ?? ''}\n`);
  let exit: Exit | undefined;
  const { promise: exited, resolve } = deferred<Exit>();
  const finish = (code: number | null): void => {
    exit = { code };
    resolve(exit);
  };
  child.once('exit', finish);
  child.once('error', (error) => {
    writeSync(logFd, `${command} could not be started: ${error.message}\n`);
    finish(null);
  });
  return {
    exited,
    get exit() {
      return exit;
    },
    end: () => {
      child.ref();
      pipe.end();
    },
    unref: () => {
      child.unref();
      pipe.unref();
    },
  };
};
