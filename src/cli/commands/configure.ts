// `sluice configure <stream>`: changes what a stream keeps. What is not given stays as it is.
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { describeStream } from '../describe-stream.ts';
import { addRetentionOptions, retentionChanges, type RetentionArguments } from '../retention-options.ts';
import { withSluice } from '../target.ts';

export function addConfigure(program: Command, context: Context): void {
  const command = program
    .command('configure')
    .description('change what a stream keeps; none takes a bound away')
    .argument('<stream>');
  addRetentionOptions(command).action((name: string, options: RetentionArguments) => {
    const changes = retentionChanges(options);
    return withSluice(context, {}, async (sluice) => {
      const configured = await sluice.configureStream(name, changes);
      await context.out.data(describeStream(configured), configured);
    });
  });
}
