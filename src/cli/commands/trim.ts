// `sluice trim <stream>`: lets go of a stream's oldest events, at once for every reader.
import type { Command } from 'commander';
import { parseCount, parseDuration, parseOffset } from '../amounts.ts';
import { wrongUsage } from '../command-error.ts';
import type { Context } from '../context.ts';
import { withSluice } from '../target.ts';

interface TrimArguments {
  readonly before?: string | undefined;
  readonly maxAge?: string | undefined;
  readonly maxCount?: string | undefined;
}

export function addTrim(program: Command, context: Context): void {
  program
    .command('trim')
    .description('remove the oldest events of a stream; their space is freed in the background')
    .argument('<stream>')
    .option('--before <offset>', 'remove events before this offset')
    .option('--max-age <duration>', 'remove events older than this: 90s, 12h, 7d')
    .option('--max-count <n>', 'remove all but the newest n events')
    .action((name: string, { before, maxAge, maxCount }: TrimArguments) => {
      if (before === undefined && maxAge === undefined && maxCount === undefined) {
        throw wrongUsage('nothing says what to trim: give --before, --max-age or --max-count');
      }
      const options = {
        before: before === undefined ? undefined : parseOffset('--before', before),
        maxAgeMs: maxAge === undefined ? undefined : parseDuration('--max-age', maxAge),
        maxCount: maxCount === undefined ? undefined : parseCount('--max-count', maxCount),
      };
      return withSluice(context, {}, async (sluice) => {
        const { oldest, removed } = await sluice.stream(name).trim(options);
        await context.out.data(`${removed} events trimmed; the oldest is ${oldest}`, {
          stream: name,
          oldest,
          removed,
        });
      });
    });
}
