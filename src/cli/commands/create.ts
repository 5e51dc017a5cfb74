// `sluice create <stream>`: makes an empty stream, with bounds on what it keeps if any are given. It is an error if
// there is one of that name already.
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { describeStream } from '../describe-stream.ts';
import { addStreamOptions, streamOptionsOf, type StreamArguments } from '../stream-arguments.ts';
import { withSluice } from '../target.ts';

export function addCreate(program: Command, context: Context): void {
  const command = program.command('create').description('create an empty stream').argument('<stream>');
  addStreamOptions(command).action((name: string, options: StreamArguments) => {
    const retention = streamOptionsOf(options);
    return withSluice(context, {}, async (sluice) => {
      const created = await sluice.createStream(name, retention);
      await context.out.data(describeStream(created), created);
    });
  });
}
