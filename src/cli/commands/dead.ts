// `sluice dead <ls|requeue|drop> <stream> <group>`: looks at the events that a group has given up, hands them out again,
// or removes them. A group that is not there is not made by asking for it.
import type { Command } from 'commander';
import type { DeadLetter, DeadLetterFilter, Group, Sluice } from '../../index.ts';
import { parseDuration, parseOffset } from '../amounts.ts';
import { CommandError, wrongUsage } from '../command-error.ts';
import type { Context } from '../context.ts';
import { streamNotFound } from '../describe-stream.ts';
import { oneLine, printable } from '../output.ts';
import { repeated } from '../repeated.ts';
import { withSluice } from '../target.ts';

export function addDead(program: Command, context: Context): void {
  const dead = program
    .command('dead')
    .description('dead letters, the events that groups gave up: ls, requeue, drop')
    .configureHelp({ showGlobalOptions: true });
  addList(dead, context);
  addTake(dead, context, {
    name: 'requeue',
    description: 'hand dead letters out again, as if they had never failed',
    done: 'requeued',
  });
  addTake(dead, context, { name: 'drop', description: 'remove dead letters for good', done: 'dropped' });
}

interface ListArguments {
  readonly key?: string | undefined;
  readonly type?: string | undefined;
  readonly since?: string | undefined;
  readonly error?: string | undefined;
}

function addList(dead: Command, context: Context): void {
  dead
    .command('ls')
    .description(
      'print dead letters: offset, when it was given up, attempts, type, key, data and error, separated by tabs',
    )
    .argument('<stream>')
    .argument('<group>')
    .option('--key <key>', 'of events with this key')
    .option('--type <type>', 'of events of this type')
    .option('--since <when>', 'given up since: a time such as 2026-01-31T12:00Z, or 90s, 12h, 7d ago')
    .option('--error <text>', 'whose error contains this text')
    .action((stream: string, group: string, { since, ...given }: ListArguments) => {
      const filter = { ...given, since: since === undefined ? undefined : parseSince(since) };
      return withSluice(context, {}, async (sluice) =>
        print(context, await existing(sluice, { stream, group }), filter),
      );
    });
}

async function print(
  { out, signal }: Context,
  group: Group<unknown>,
  filter: DeadLetterFilter,
): Promise<void> {
  let count = 0;
  for await (const letter of group.deadLetters.list({ ...filter, signal })) {
    await out.data(lineOf(letter), letter);
    count += 1;
  }
  signal.throwIfAborted();
  if (count === 0) out.talk('there are no such dead letters');
}

const lineOf = ({ event, attempts, error, at }: DeadLetter): string =>
  [
    String(event.offset),
    at.toISOString(),
    String(attempts),
    ...[event.type ?? '-', event.key ?? '-', JSON.stringify(event.data), error ?? '-'].map((text) =>
      printable(oneLine(text)).replaceAll('\t', ' '),
    ),
  ].join('\t');

interface Taking {
  readonly name: 'requeue' | 'drop';
  readonly description: string;
  readonly done: string;
}

interface TakeArguments {
  readonly offset?: readonly string[] | undefined;
  readonly all?: boolean | undefined;
}

function addTake(dead: Command, context: Context, { name, description, done }: Taking): void {
  dead
    .command(name)
    .description(description)
    .argument('<stream>')
    .argument('<group>')
    .option('--offset <offset>', 'the one of this event; may be repeated', repeated)
    .option('--all', 'all of them')
    .action((stream: string, group: string, { offset, all = false }: TakeArguments) => {
      if ((offset === undefined) === !all) {
        throw wrongUsage(`give --offset for each event to ${name}, or --all for all of them`);
      }
      const offsets = offset?.map((text) => parseOffset('--offset', text));
      return withSluice(context, {}, async (sluice) => {
        const { deadLetters } = await existing(sluice, { stream, group });
        const count = await deadLetters[name]({ offsets });
        await context.out.data(`${count} ${done}`, { stream, group, [done]: count });
      });
    });
}

/** The group, if there is one. @throws SluiceError stream_not_found; CommandError group_not_found */
async function existing(
  sluice: Sluice,
  names: { readonly stream: string; readonly group: string },
): Promise<Group<unknown>> {
  const stream = sluice.stream(names.stream);
  const group = stream.group(names.group);
  for await (const { name } of sluice.groups({ stream: names.stream }))
    if (name === names.group) return group;
  if ((await stream.info()) === null) throw streamNotFound(names.stream);
  throw new CommandError(
    'group_not_found',
    `stream ${JSON.stringify(names.stream)} has no group ${JSON.stringify(names.group)}; \`sluice groups\` lists those that are there`,
  );
}

/** A time, or how long ago. @throws CommandError */
function parseSince(text: string): Date {
  if (!/^\d{4}-/.test(text)) return new Date(Date.now() - parseDuration('--since', text));
  const at = new Date(text);
  if (!Number.isNaN(at.getTime())) return at;
  throw wrongUsage(`--since is ${JSON.stringify(text)}; give a time such as 2026-01-31T12:00Z`);
}
