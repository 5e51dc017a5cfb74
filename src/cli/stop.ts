// Why and when a command stops before its own end: a signal, a reader of our output that has left, or a part that
// failed in the background. The first asks politely, through an AbortSignal; a second signal ends the process at once.
import { CommandError } from './command-error.ts';

/** The command was asked to stop. `quiet`: nobody is there to be told. */
export class Stopped extends CommandError {
  readonly quiet: boolean;

  constructor(message: string, quiet: boolean) {
    super('interrupted', message);
    this.quiet = quiet;
  }
}

/** npm passes Ctrl-C on to a process that the terminal has told already: that is one signal, not two. */
const SAME_SIGNAL_MS = 500;
/** Not SIGHUP: listening to it would undo nohup. */
const SIGNALS = ['SIGINT', 'SIGTERM'] as const;
/** How often a process that npm has started looks whether npm's shell is still there. */
const PARENT_CHECK_MS = 250;
/** How long what is left may keep a process that was stopped: output that nobody reads, a server that does not answer. */
const LINGER_MS = 1000;

export class Stop {
  readonly #controller = new AbortController();
  readonly #parentCheck: NodeJS.Timeout | undefined;
  #firstSignalAt: number | undefined;

  constructor() {
    for (const name of SIGNALS) process.on(name, this.#onSignal);
    if (process.env['npm_lifecycle_event'] !== undefined) this.#parentCheck = this.#watchParent();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Stops the command, which then fails with this error. */
  fail(error: Error): void {
    this.#controller.abort(error);
  }

  /** Standard output cannot be written to. */
  readonly outputBroken = (error: NodeJS.ErrnoException): void => {
    if (error.code === 'EPIPE') this.fail(new Stopped('nobody reads the output any more', true));
    else this.fail(new CommandError('failed', `standard output cannot be written: ${error.message}`));
  };

  /** The command has ended, and has closed what it had opened. */
  close(): void {
    clearInterval(this.#parentCheck);
    for (const name of SIGNALS) process.off(name, this.#onSignal);
    if (this.signal.aborted) setTimeout(() => process.exit(), LINGER_MS).unref();
  }

  // npm and npx pass SIGTERM on to their shell, which dies of it and tells nobody: a port and a database would stay.
  #watchParent(): NodeJS.Timeout {
    const parent = process.ppid;
    const check = (): void => {
      if (process.ppid !== parent) this.fail(new Stopped('interrupted: npm has ended', false));
    };
    return setInterval(check, PARENT_CHECK_MS).unref();
  }

  readonly #onSignal = (name: NodeJS.Signals): void => {
    const now = performance.now();
    this.#firstSignalAt ??= now;
    if (!this.signal.aborted) this.fail(new Stopped(`interrupted by ${name}`, false));
    else if (now - this.#firstSignalAt > SAME_SIGNAL_MS) process.exit(1);
  };
}

/** Resolves when the command is to stop; rejects when that is for a failure. */
export async function untilStopped(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) {
    await new Promise<void>((resolve) => {
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
  }
  if (!(signal.reason instanceof Stopped)) throw signal.reason;
}
