// `sluice configure <stream>`: changes what a stream keeps. What is not given stays as it is.
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { describeStream } from '../describe-stream.ts';
import { addStreamOptions, streamChangesOf, type StreamArguments } from '../stream-arguments.ts';
import { withSluice } from '../target.ts';

export function addConfigure(program: Command, context: Context): void {
  const command = program
    .command('configure')
    .description("change a stream's bounds and idempotency window; the value none removes a bound")
    .argument('<stream>');
  addStreamOptions(command).action((name: string, options: StreamArguments) => {
    const changes = streamChangesOf(options);
    return withSluice(context, {}, async (sluice) => {
      const configured = await sluice.configureStream(name, changes);
      await context.out.data(describeStream(configured), configured);
    });
  });
}
