// `sluice streams [prefix]`: one line per stream, in bytewise order of the names. The name stands last, so that the
// columns need no width that only the end of the list would tell.
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { listStream, listHeading } from '../describe-stream.ts';
import { withSluice } from '../target.ts';

export function addStreams(program: Command, context: Context): void {
  const { out, signal } = context;
  program
    .command('streams')
    .description('list the streams, or those whose name starts with the prefix')
    .argument('[prefix]', '', '')
    .action((prefix: string) =>
      withSluice(context, {}, async (sluice) => {
        if (out.watched) out.talk(listHeading);
        let count = 0;
        for await (const info of sluice.streams({ prefix, signal })) {
          await out.data(listStream(info), info);
          count += 1;
        }
        signal.throwIfAborted();
        if (count === 0) out.talk(prefix === '' ? 'there are no streams yet' : 'no stream has that prefix');
      }),
    );
}
