// `sluice delete <stream>`: deletes a stream with all its events. What was published to it and not yet moved becomes
// undeliverable.
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { streamNotFound } from '../describe-stream.ts';
import { printable } from '../output.ts';
import { withSluice } from '../target.ts';

export function addDelete(program: Command, context: Context): void {
  program
    .command('delete')
    .description('delete a stream and its events')
    .argument('<stream>')
    .action((name: string) =>
      withSluice(context, {}, async (sluice) => {
        if (!(await sluice.deleteStream(name))) throw streamNotFound(name);
        await context.out.data(`deleted ${printable(name)}`, { deleted: name });
      }),
    );
}
