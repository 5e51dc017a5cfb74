// One run of the command line: parses it, runs one command, tells a failure in one line and turns the outcome into the
// exit code. It does not end the process: that ends by itself, so that output and clean-up are complete (stop.ts says what
// happens where it does not).
import { CommanderError } from 'commander';
import { toFailure } from './command-error.ts';
import { Output } from './output.ts';
import { createProgram } from './program.ts';
import { Stop, Stopped } from './stop.ts';

/** Runs the command line, without the program's own name; resolves with the exit code and never rejects. */
export async function main(argv: readonly string[]): Promise<number> {
  const stop = new Stop();
  const out = new Output({
    stdout: process.stdout,
    stderr: process.stderr,
    json: wantsJson(argv),
    onBroken: stop.outputBroken,
    signal: stop.signal,
  });
  tellWarnings(out);
  try {
    await createProgram({ out, stop, signal: stop.signal }).parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    return tell(error, out);
  } finally {
    stop.close();
  }
}

// Needed before the command line is parsed, for errors in it.
const wantsJson = (argv: readonly string[]): boolean => {
  const end = argv.indexOf('--');
  return argv.slice(0, end === -1 ? argv.length : end).includes('--json');
};

// Node prints the warnings of libraries on several lines, and knows nothing of --json.
function tellWarnings(out: Output): void {
  if (process.listenerCount('warning') === 0) return; // they are turned off
  process.removeAllListeners('warning');
  process.on('warning', ({ message }) => out.warn(message));
}

function tell(error: unknown, out: Output): number {
  if (error instanceof Stopped && error.quiet) return 0;
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    if (error.code === 'commander.help') return 2; // no command was given, and help has been printed
  }
  const failure = toFailure(error);
  out.fail(failure);
  return failure.exitCode;
}
