// Standard input into a stream: NDJSON in bounded batches, the next one read when the last one is written. What was
// written before a bad line, a failure or a signal stays, and the error says how much that is and where it stopped.
import { SluiceError } from '../index.ts';
import { messageOf } from '../util/errors.ts';
import { CommandError, toFailure } from './command-error.ts';
import type { Context } from './context.ts';
import { badLine, readNdjson, type JsonLine } from './ndjson.ts';
import { Stopped } from './stop.ts';

const MAX_BATCH = 1000;
/** Between lines of progress where they cannot be written over. */
const PROGRESS_EVERY = 10_000;
const PROGRESS_MS = 100;

/** After these nothing of a batch is written: its events can be tried one by one, to find the bad one. */
const REFUSALS: ReadonlySet<string> = new Set(['payload_invalid', 'payload_too_large']);

export interface Ingest {
  /** Such as `appended`. */
  readonly done: string;
  readonly input: AsyncIterable<Uint8Array>;
  readonly write: (values: readonly unknown[]) => Promise<void>;
}

/** Resolves with how many events were written. @throws CommandError that says so too */
export async function ingest(context: Context, { done, input, write }: Ingest): Promise<number> {
  const { signal } = context;
  const told = progress(context, done);
  let count = 0;
  let sending: readonly JsonLine[] = [];
  const send = async (lines: readonly JsonLine[]): Promise<void> => {
    signal.throwIfAborted();
    sending = lines;
    await write(lines.map(({ value }) => value));
    count += lines.length;
    sending = [];
    told(count);
  };
  try {
    for await (const { lines, error } of readNdjson(untilAborted(input, signal))) {
      for (let from = 0; from < lines.length; from += MAX_BATCH) {
        await sendOrFindBad(lines.slice(from, from + MAX_BATCH), send);
      }
      if (error) throw error;
    }
    signal.throwIfAborted();
  } catch (error) {
    throw withAccount(error, { count, sending, done });
  }
  told(count, true);
  return count;
}

async function sendOrFindBad(
  lines: readonly JsonLine[],
  send: (lines: readonly JsonLine[]) => Promise<void>,
): Promise<void> {
  try {
    await send(lines);
  } catch (error) {
    if (!(error instanceof SluiceError && REFUSALS.has(error.code))) throw error;
    const [line] = lines;
    if (lines.length === 1 && line) {
      throw badLine(line.number, `was refused: ${error.message.replace(/^events\[0\]: /, '')}`, error.code);
    }
    for (const each of lines) await sendOrFindBad([each], send);
  }
}

// The input ends with the signal, also while nothing comes.
async function* untilAborted(
  input: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const chunks = input[Symbol.asyncIterator]();
  const aborted = new Promise<undefined>((resolve) => {
    signal.addEventListener('abort', () => resolve(undefined), { once: true });
  });
  while (!signal.aborted) {
    const next = await Promise.race([chunks.next(), aborted]);
    if (next === undefined || next.done === true) return;
    yield next.value;
  }
}

interface Account {
  readonly count: number;
  readonly sending: readonly JsonLine[];
  readonly done: string;
}

// A refusal leaves nothing of its batch behind; after a lost connection nobody knows.
function withAccount(error: unknown, { count, sending, done }: Account): unknown {
  if (error instanceof Stopped && error.quiet) return error;
  const { code, exitCode } = toFailure(error);
  const [first, last] = [sending[0]?.number, sending.at(-1)?.number];
  const unknown =
    code === 'connection_lost' && first !== undefined
      ? `; lines ${first} to ${last} may have been ${done} too`
      : '';
  const message = `${messageOf(error)}; ${count} events were ${done} before that and stay${unknown}`;
  return new CommandError(code, message, { exitCode, cause: error });
}

function progress({ out }: Context, done: string): (count: number, finished?: boolean) => void {
  let toldAt = 0;
  let toldMs = -Infinity;
  return (count, finished = false) => {
    const now = performance.now();
    const due = out.progressIsCheap ? now - toldMs > PROGRESS_MS : count - toldAt >= PROGRESS_EVERY;
    if (!due && !(finished && count !== toldAt)) return;
    out.progress(`${count} events ${done}`);
    toldAt = count;
    toldMs = now;
  };
}
