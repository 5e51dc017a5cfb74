// Where everything a command says goes: data to standard output, talk to standard error, as text or, with --json, as
// one JSON value per line on both. It waits for a slow reader, and never prints a control character that data from
// elsewhere could steer a terminal with.
import { waitOrAbort } from '../util/abort.ts';
import { deferred } from '../util/deferred.ts';
import type { Failure } from './command-error.ts';

export interface OutputOptions {
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
  readonly json: boolean;
  /** Standard output takes no more; EPIPE when its reader has left. */
  readonly onBroken: (error: NodeJS.ErrnoException) => void;
  /** Ends waiting for a reader who does not read. */
  readonly signal: AbortSignal;
}

export class Output {
  readonly json: boolean;
  readonly #stdout: NodeJS.WriteStream;
  readonly #stderr: NodeJS.WriteStream;
  readonly #signal: AbortSignal;
  #broken = false;
  #progressing = false;
  #drained: (() => void) | undefined;

  constructor({ stdout, stderr, json, onBroken, signal }: OutputOptions) {
    this.#stdout = stdout;
    this.#stderr = stderr;
    this.#signal = signal;
    this.json = json;
    stdout.on('drain', () => this.#drained?.());
    stdout.on('error', (error) => {
      this.#broken = true;
      this.#drained?.();
      onBroken(error);
    });
    stderr.on('error', () => {}); // nobody is left to be told
  }

  /** Whether somebody watches the data come. */
  get watched(): boolean {
    return this.#stdout.isTTY;
  }

  /** One piece of data: the text, or with --json the value. Resolves when there is room for more. @throws the signal's reason */
  async data(text: string, value: unknown): Promise<void> {
    if (this.#broken) return;
    this.#clearProgress();
    const line = this.json ? JSON.stringify(value, jsonValue) : text;
    if (this.#stdout.write(`${line}\n`)) return;
    const drained = deferred();
    this.#drained = drained.resolve;
    await waitOrAbort(drained.promise, this.#signal);
    this.#drained = undefined;
  }

  /** For people only: nothing with --json. */
  talk(text: string): void {
    if (this.json) return;
    this.#clearProgress();
    this.#stderr.write(`${printable(text)}\n`);
  }

  /** Something is not as it should be, and work goes on. */
  warn(message: string): void {
    this.#complain(`warning: ${message}`, { warning: { message } });
  }

  fail({ code, message, cursor }: Failure): void {
    const error = { code, message: oneLine(message), ...(cursor === undefined ? {} : { cursor }) };
    this.#complain(`error: ${message}`, { error });
  }

  /** How far it is: a line that is written over on a terminal, a line each time elsewhere. */
  progress(text: string): void {
    if (this.json) return;
    if (!this.#stderr.isTTY) return this.talk(text);
    this.#stderr.write(`\r${printable(text)}\x1b[K`);
    this.#progressing = true;
  }

  /** Whether progress may be told often. */
  get progressIsCheap(): boolean {
    return this.#stderr.isTTY;
  }

  #complain(text: string, value: object): void {
    this.#clearProgress();
    this.#stderr.write(`${this.json ? JSON.stringify(value) : printable(oneLine(text))}\n`);
  }

  #clearProgress(): void {
    if (this.#progressing) this.#stderr.write('\r\x1b[K');
    this.#progressing = false;
  }
}

const jsonValue = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? String(value) : value);

/** Lists in messages become sentences. */
export const oneLine = (text: string): string =>
  text
    .trim()
    .replace(/:\s*\n\s*(?:- )?/g, ': ')
    .replace(/\s*\n\s*(?:- )?/g, '; ');

/** Text without anything a terminal would obey: control characters, and those that turn the reading direction. */
export const printable = (text: string): string =>
  text.replace(/[\p{Cc}\u2028-\u202e\u2066-\u2069]/gu, (character) =>
    character === '\n' || character === '\t'
      ? character
      : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
