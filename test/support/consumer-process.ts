// Owns other processes that consume in groups (consumer-child.mjs): starts them, stops, resumes and kills them, keeps
// what they say, and notices when one ends that nobody ended.
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { ConnectOptions, ConsumeOptions, GroupOptions } from 'sluice';
import { until } from './diagnostics.ts';
import { root } from './tidy/files.ts';

export interface Settings {
  readonly connect: ConnectOptions;
  readonly stream: string;
  readonly group: string;
  readonly options?: GroupOptions | undefined;
  readonly consume?: ConsumeOptions | undefined;
  /** Whether effects are written in the transaction that acknowledges. */
  readonly transactional: boolean;
  readonly seed: number;
  /** By default one event at a time; `count` writes nothing. */
  readonly handler?: 'batch' | 'count' | undefined;
  /** Megabytes that its heap may have. */
  readonly heapMb?: number | undefined;
  /** Which part of the first three attempts fails; half of these after their effect. */
  readonly failing?: number | undefined;
  /** The offset whose handler, its effect written, waits to be told to go on. */
  readonly hold?: number | undefined;
  /** The offset whose handler kills its process. */
  readonly poison?: number | undefined;
}

export type Said =
  | { readonly ready: true }
  | { readonly holding: string }
  | { readonly lost: true }
  | { readonly counted: number }
  | { readonly refused: string; readonly offset: string };

export class ConsumerProcess implements AsyncDisposable {
  readonly settings: Settings;
  readonly said: Said[] = [];
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  /** Resolves with how it ended; everything that it said has been heard then. */
  readonly ended: Promise<string>;
  #end: string | undefined;
  #stderr = '';

  constructor(settings: Settings) {
    this.settings = settings;
    const script = `${root}test/support/consumer-child.mjs`;
    const heap = settings.heapMb === undefined ? [] : [`--max-old-space-size=${settings.heapMb}`];
    this.#child = spawn(process.execPath, [...heap, script, JSON.stringify(settings)], {
      cwd: root,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => (this.#stderr += text));
    createInterface({ input: this.#child.stdout }).on('line', (line) =>
      this.said.push(JSON.parse(line) as Said),
    );
    this.#child.stdin.on('error', () => {}); // it may be gone
    this.ended = once(this.#child, 'close').then(([code, signal]) => {
      this.#end = String(signal ?? code);
      return this.#end;
    });
  }

  /** How many events it has handled, about. */
  get counted(): number {
    const last = this.said.findLast((said) => 'counted' in said);
    return last === undefined ? 0 : last.counted;
  }

  /** @throws Error if it ended with an error of its own: not closed, and not killed */
  get isOver(): boolean {
    const end = this.#end;
    if (end !== undefined && end !== '0' && end !== 'SIGKILL')
      throw new Error(`a consumer of ${this.settings.group} ended with ${end}:\n${this.#stderr}`);
    return end !== undefined;
  }

  /** Resolves when it has said something of the kind. */
  async says(wanted: 'ready' | 'holding' | 'lost' | 'refused'): Promise<Said> {
    const find = (): Said | undefined => this.said.find((said) => wanted in said);
    await until(
      () => {
        if (find() !== undefined) return true;
        if (this.isOver)
          throw new Error(`a consumer of ${this.settings.group} ended before it was ${wanted}`);
        return false;
      },
      { deadlineMs: 60_000 },
    );
    return find()!;
  }

  go(): void {
    this.#child.stdin.write('go\n');
  }

  /** Freezes it: nothing in it runs, and its connections stay open. */
  stop(): void {
    this.#child.kill('SIGSTOP');
  }

  resume(): void {
    this.#child.kill('SIGCONT');
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.ended;
  }

  /** Lets it finish. @throws Error if it ended with an error of its own */
  async close(): Promise<void> {
    this.#child.stdin.end();
    await this.ended;
    void this.isOver;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}
