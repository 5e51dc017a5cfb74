// Owns running the built CLI as a user does: a process of its own, with nothing of this one's environment that would
// name a database or a port. Its output is there while it runs, so that tests wait for what it says, never for time;
// whatever a test file leaves running is killed, by process id, when the file ends.
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll } from 'vitest';
import { until } from './diagnostics.ts';
import { root } from './tidy/files.ts';

export interface Finished {
  /** Null after a signal. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcessWithoutNullStreams;
  readonly pid: number;
  stdout(): string;
  stderr(): string;
  /** Resolves with the first match in what it has said; fails if it ends without saying it. */
  says(expression: RegExp, where?: 'stdout' | 'stderr'): Promise<RegExpExecArray>;
  kill(signal: NodeJS.Signals): void;
  readonly finished: Promise<Finished>;
}

export interface CliOptions {
  readonly cwd?: string | undefined;
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  /** All of standard input; default: none. With null it stays open. */
  readonly input?: string | Uint8Array | null | undefined;
}

export interface Cli {
  readonly start: (args: readonly string[], options?: CliOptions) => Running;
  readonly run: (args: readonly string[], options?: CliOptions) => Promise<Finished>;
}

const program = `${root}dist/cli.js`;

const environment = (own: CliOptions['env']): NodeJS.ProcessEnv => {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(?:DATABASE_URL|HOST|PORT|PG.*|SLUICE_.*)$/.test(name),
  );
  return { ...Object.fromEntries(kept), ...own };
};

const start = (args: readonly string[], { cwd, env, input = '' }: CliOptions): Running => {
  if (!existsSync(program)) throw new Error('build first: npm run build');
  const child = spawn(process.execPath, [program, ...args], { cwd: cwd ?? tmpdir(), env: environment(env) });
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => (said[name] += text));
  }
  // It may end without having read everything.
  child.stdin.on('error', () => {});
  if (input !== null) child.stdin.end(input);
  let ended = false;
  const finished = once(child, 'close').then(([code]) => {
    ended = true;
    return { code: code as number | null, ...said };
  });
  return {
    child,
    pid: child.pid!,
    stdout: () => said.stdout,
    stderr: () => said.stderr,
    says: async (expression, where = 'stdout') => {
      await until(() => {
        if (expression.test(said[where])) return true;
        if (ended) throw new Error(`it ended without saying ${String(expression)}: ${JSON.stringify(said)}`);
        return false;
      });
      return expression.exec(said[where])!;
    },
    kill: (signal) => void child.kill(signal),
    finished,
  };
};

/** Call it once, at the top of a test file. */
export const useCli = (): Cli => {
  const started: Running[] = [];
  afterAll(async () => {
    for (const { child } of started) child.kill('SIGKILL');
    await Promise.all(started.map(({ finished }) => finished));
  });
  const track = (args: readonly string[], options: CliOptions = {}): Running => {
    const running = start(args, options);
    started.push(running);
    return running;
  };
  return { start: track, run: (args, options) => track(args, options).finished };
};
