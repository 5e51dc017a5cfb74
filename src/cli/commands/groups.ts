// `sluice groups [stream]`: one line per group, by stream and name: how far it has come and what stands in its way. The
// names stand last, so that the columns need no width that only the end of the list would tell.
import type { Command } from 'commander';
import type { GroupInfo } from '../../index.ts';
import { ageText } from '../amounts.ts';
import type { Context } from '../context.ts';
import { streamNotFound } from '../describe-stream.ts';
import { printable } from '../output.ts';
import { withSluice } from '../target.ts';

export function addGroups(program: Command, context: Context): void {
  const { out, signal } = context;
  program
    .command('groups')
    .description('list the groups of all streams, or of one: how far they are, and what waits')
    .argument('[stream]')
    .action((stream: string | undefined) =>
      withSluice(context, {}, async (sluice) => {
        if (out.watched) out.talk(heading);
        let count = 0;
        for await (const info of sluice.groups({ stream, signal })) {
          await out.data(lineOf(info), info);
          count += 1;
        }
        signal.throwIfAborted();
        if (count > 0) return;
        if (stream !== undefined && (await sluice.stream(stream).info()) === null) {
          throw streamNotFound(stream);
        }
        out.talk(stream === undefined ? 'there are no groups yet' : 'this stream has no groups yet');
      }),
    );
}

const WIDTHS = [10, 8, 10, 9, 7, 6, 6, 7, 8, 6];

const line = (cells: readonly string[], names: string): string =>
  `${cells.map((cell, at) => cell.padStart(WIDTHS[at] ?? 0)).join('  ')}  ${names}`;

const heading = line(
  ['cursor', 'lag', 'oldest', 'in flight', 'retries', 'dead', 'missed', 'members', 'rate', 'state'],
  'stream\tgroup',
);

const lineOf = (info: GroupInfo): string =>
  line(
    [
      String(info.cursor),
      String(info.lag),
      info.oldestAgeMs === null ? '-' : ageText(info.oldestAgeMs),
      ...[info.inFlight, info.retries, info.dead, info.missed, info.members].map(String),
      `${Number(info.rate.toPrecision(3))}/s`,
      info.paused ? 'paused' : 'open',
    ],
    `${printable(info.stream)}\t${printable(info.name)}`,
  );
