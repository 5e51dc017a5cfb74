// `sluice create <stream>`: makes an empty stream. It is an error if there is one of that name already.
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { describeStream } from '../describe-stream.ts';
import { withSluice } from '../target.ts';

export function addCreate(program: Command, context: Context): void {
  program
    .command('create')
    .description('create an empty stream')
    .argument('<stream>')
    .action((name: string) =>
      withSluice(context, {}, async (sluice) => {
        const created = await sluice.createStream(name);
        await context.out.data(describeStream(created), created);
      }),
    );
}
