// `sluice undeliverable <ls|drop>`: looks at the published events whose stream was closed or deleted before they were
// moved, or removes them.
import type { Command } from 'commander';
import type { Undeliverable } from '../../index.ts';
import { wrongUsage } from '../command-error.ts';
import type { Context } from '../context.ts';
import { oneLine, printable } from '../output.ts';
import { repeated } from '../repeated.ts';
import { withSluice } from '../target.ts';

export function addUndeliverable(program: Command, context: Context): void {
  const undeliverable = program
    .command('undeliverable')
    .description('published events whose stream was closed or deleted before they were moved: ls, drop')
    .configureHelp({ showGlobalOptions: true });
  addList(undeliverable, context);
  addDrop(undeliverable, context);
}

function addList(undeliverable: Command, context: Context): void {
  const { out, signal } = context;
  undeliverable
    .command('ls')
    .description(
      'print them, oldest first: id, published at, reason, stream, type, key, data, separated by tabs',
    )
    .option('--stream <name>', 'of this stream')
    .action(({ stream }: { readonly stream?: string | undefined }) =>
      withSluice(context, {}, async (sluice) => {
        let count = 0;
        for await (const event of sluice.undeliverable({ signal })) {
          if (stream !== undefined && event.stream !== stream) continue;
          await out.data(lineOf(event), event);
          count += 1;
        }
        signal.throwIfAborted();
        if (count === 0) out.talk('there are no such undeliverable events');
      }),
    );
}

const lineOf = ({ id, publishedAt, reason, stream, type, key, data }: Undeliverable): string =>
  [
    id,
    publishedAt.toISOString(),
    reason,
    ...[stream, type ?? '-', key ?? '-', JSON.stringify(data)].map((text) =>
      printable(oneLine(text)).replaceAll('\t', ' '),
    ),
  ].join('\t');

interface DropArguments {
  readonly id?: readonly string[] | undefined;
  readonly all?: boolean | undefined;
}

function addDrop(undeliverable: Command, context: Context): void {
  undeliverable
    .command('drop')
    .description('remove undeliverable events for good')
    .option('--id <id>', 'the one with this id; may be repeated', repeated)
    .option('--all', 'all of them')
    .action(({ id, all = false }: DropArguments) => {
      if ((id === undefined) === !all) {
        throw wrongUsage('give --id for each event to drop, or --all for all of them');
      }
      const ids = id?.map(parseId);
      return withSluice(context, {}, async (sluice) => {
        const dropped = await sluice.dropUndeliverable({ ids, signal: context.signal });
        await context.out.data(`${dropped} dropped`, { dropped });
      });
    });
}

/** @throws CommandError */
function parseId(text: string): string {
  if (/^\d{1,18}$/.test(text)) return text;
  throw wrongUsage(`--id is ${JSON.stringify(text)}; give an id as \`sluice undeliverable ls\` prints it`);
}
