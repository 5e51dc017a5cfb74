// Owns the server process of a soak (soak-child.mjs): starts it, asks what it holds, lets it end.
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { HandlerStats } from 'sluice/http';
import { root } from './tidy/files.ts';

/** What the process holds; in bytes. */
export interface Held extends Pick<HandlerStats, 'connections' | 'opened' | 'events' | 'ended'> {
  /** After a collection, with what lies outside of the heap. */
  readonly heap: number;
  readonly rss: number;
  /** Without those of the pool, as the descriptors. */
  readonly sockets: number;
  readonly descriptors: number;
  /** What was reported to have failed in the background. */
  readonly failures: readonly string[];
}

export class SoakServer implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #closed: Promise<unknown>;
  readonly #lines: AsyncIterator<string>;
  #asking: Promise<unknown> = Promise.resolve();
  #port = 0;

  private constructor(connectionString: string) {
    const script = `${root}test/support/soak-child.mjs`;
    this.#child = spawn(process.execPath, ['--expose-gc', script, connectionString], {
      cwd: root,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#closed = once(this.#child, 'close');
    this.#child.stdin.on('error', () => {}); // it may be gone
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  static async start(connectionString: string): Promise<SoakServer> {
    const server = new SoakServer(connectionString);
    server.#port = (await server.#hear<{ port: number }>()).port;
    return server;
  }

  get port(): number {
    return this.#port;
  }
  url(query: string): string {
    return `http://127.0.0.1:${this.#port}/v1/events?${query}`;
  }

  /** What it holds once it has let go of what it can. */
  sample(): Promise<Held> {
    return this.#ask('sample');
  }
  /** The same as it stands. */
  look(): Promise<Held> {
    return this.#ask('look');
  }

  /** Lets it end; answers how it did. */
  async close(): Promise<number | null> {
    this.#child.stdin.end();
    await this.#closed;
    return this.#child.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#closed;
  }

  #ask(command: string): Promise<Held> {
    const answer = this.#asking.then(() => {
      this.#child.stdin.write(`${command}\n`);
      return this.#hear<Held>();
    });
    this.#asking = answer.catch(() => {});
    return answer;
  }

  async #hear<T>(): Promise<T> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error('the server process ended');
    return JSON.parse(value) as T;
  }
}
