// `sluice info <stream>`: one stream: its first and last offset, its size and rates, what it keeps, its age, and whether
// it is closed.
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { describeStream, streamNotFound } from '../describe-stream.ts';
import { withSluice } from '../target.ts';

export function addInfo(program: Command, context: Context): void {
  program
    .command('info')
    .description('show a stream: its head and oldest event, size, rates, what it keeps, whether it is closed')
    .argument('<stream>')
    .action((name: string) =>
      withSluice(context, {}, async (sluice) => {
        const info = await sluice.stream(name).info();
        if (info === null) throw streamNotFound(name);
        await context.out.data(describeStream(info), info);
      }),
    );
}
