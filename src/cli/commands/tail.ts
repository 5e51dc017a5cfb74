// `sluice tail <stream>`: prints events, one line each, up to the head as it was found or, with --follow, for ever.
// Where history is gone it says so, names the cursor to go on from, and fails: it never skips in silence (I8).
import { Option, type Command } from 'commander';
import type { Sluice, StreamEvent } from '../../index.ts';
import type { Context } from '../context.ts';
import { printable } from '../output.ts';
import { stderrLogger } from '../stderr-logger.ts';
import { untilStopped } from '../stop.ts';
import { withSluice } from '../target.ts';

/**
 * Never the relay: one that is suspended with Ctrl-Z would hold up everybody's events. What is published while nobody
 * has that role is found by this poll.
 */
const FALLBACK_POLL_MS = 1000;

interface TailOptions {
  readonly after: string;
  readonly follow?: boolean | undefined;
}

export function addTail(program: Command, context: Context): void {
  program
    .command('tail')
    .description('print the events of a stream: offset, time, type and data, separated by tabs')
    .argument('<stream>')
    .addOption(
      new Option(
        '--after <position>',
        'an offset, a cursor, start or end: print what comes after it',
      ).default('start'),
    )
    .option('--follow', 'continue with new events until interrupted')
    .action((name: string, { after, follow = false }: TailOptions) => {
      if (!follow) return withSluice(context, {}, (sluice) => printStored(context, sluice, { name, after }));
      const options = { fallbackPollMs: FALLBACK_POLL_MS, logger: stderrLogger(context) };
      return withSluice(context, options, (sluice) => printLive(context, sluice, { name, after }));
    });
}

interface Tailed {
  readonly name: string;
  readonly after: string;
}

// The head is fixed by the first page, so a busy stream does not keep this from ending.
async function printStored({ out, signal }: Context, sluice: Sluice, { name, after }: Tailed): Promise<void> {
  const stream = sluice.stream(name);
  let page = await stream.read({ after, signal });
  const { head } = page;
  for (;;) {
    for (const event of page.events) {
      if (event.offset > head) return;
      signal.throwIfAborted();
      await out.data(lineOf(event), event);
    }
    if (page.upToDate) return;
    page = await stream.read({ after: page.cursor, signal });
  }
}

async function printLive({ out, signal }: Context, sluice: Sluice, { name, after }: Tailed): Promise<void> {
  const subscription = sluice.stream(name).subscribe({ after, signal });
  await subscription.ready.catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
  for await (const event of subscription) await out.data(lineOf(event), event);
  if (signal.aborted) return untilStopped(signal);
  out.talk('the subscription has ended');
}

const lineOf = ({ offset, at, type, data }: StreamEvent): string =>
  [offset, at.toISOString(), printable(type ?? '-'), printable(JSON.stringify(data))].join('\t');
