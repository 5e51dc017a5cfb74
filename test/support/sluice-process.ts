// Owns other processes that use the built package (sluice-process-child.mjs): starts them, kills and stops them, and
// records what readers in them get. A reader outlives its process: it goes on in another one from its last cursor.
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { ConnectOptions } from 'sluice';
import { deferred } from '../../src/util/deferred.ts';
import type { Reading, Seen } from './history.ts';
import { root } from './tidy/files.ts';

type Said =
  | { readonly ready: true }
  | { readonly role: { readonly held: boolean } }
  | { readonly event: { readonly name: string; readonly offset: string } & Omit<Seen, 'offset'> }
  | { readonly failed: { readonly name: string; readonly message: string } };

export class SluiceProcess implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #closed: Promise<unknown>;
  readonly #ready = deferred();
  readonly #readers = new Map<string, RemoteReader>();
  #holdsRole = false;

  private constructor(options: ConnectOptions) {
    const script = `${root}test/support/sluice-process-child.mjs`;
    this.#child = spawn(process.execPath, [script, JSON.stringify(options)], {
      cwd: root,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#closed = once(this.#child, 'close').then(() => this.#ready.reject(new Error('the process ended')));
    this.#ready.promise.catch(() => {});
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#hear(JSON.parse(line) as Said));
    this.#child.stdin.on('error', () => {}); // it may be gone
  }

  /** Resolves when the process is connected. */
  static async start(options: ConnectOptions): Promise<SluiceProcess> {
    const started = new SluiceProcess(options);
    await started.#ready.promise;
    return started;
  }

  /** Whether it said last that it has the relay role. */
  get holdsRole(): boolean {
    return this.#holdsRole;
  }

  follow(reader: RemoteReader): void {
    const { reader: name, stream, events } = reader.reading;
    this.#readers.set(name, reader);
    const after = events.at(-1)?.cursor ?? '0';
    this.#child.stdin.write(`${JSON.stringify({ follow: { name, stream, after } })}\n`);
  }

  /** Freezes it: nothing in it runs, and its connections stay open. */
  stop(): void {
    this.#child.kill('SIGSTOP');
  }

  resume(): void {
    this.#child.kill('SIGCONT');
  }

  /** Ends it at once; resolves when everything it said has been heard. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#closed;
    this.#holdsRole = false;
  }

  /** Lets it close. */
  async close(): Promise<void> {
    this.#child.stdin.end();
    await this.#closed;
    this.#holdsRole = false;
  }

  /** Also for a process that is stopped, or the test has failed halfway. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }

  #hear(said: Said): void {
    if ('ready' in said) this.#ready.resolve();
    else if ('role' in said) this.#holdsRole = said.role.held;
    else if ('event' in said) {
      const { name, offset, value, cursor } = said.event;
      this.#readers.get(name)?.take({ offset: BigInt(offset), value, cursor });
    } else this.#readers.get(said.failed.name)?.fail(said.failed.message);
  }
}

/** What a reader in other processes has got, one process at a time. */
export class RemoteReader {
  readonly #events: Seen[] = [];
  readonly #reading: Reading;
  #failure: string | undefined;

  constructor(name: string, stream: string) {
    this.#reading = { reader: `${name} of ${stream}`, stream, after: 0n, events: this.#events };
  }

  get stream(): string {
    return this.#reading.stream;
  }

  /** @throws what ended it */
  get position(): bigint {
    if (this.#failure !== undefined) throw new Error(`${this.#reading.reader} failed: ${this.#failure}`);
    return this.#events.at(-1)?.offset ?? 0n;
  }

  get reading(): Reading {
    return this.#reading;
  }

  take(event: Seen): void {
    this.#events.push(event);
  }

  fail(message: string): void {
    this.#failure = message;
  }

  /** Its process ends by itself. */
  stop(): Promise<void> {
    return Promise.resolve();
  }
}
