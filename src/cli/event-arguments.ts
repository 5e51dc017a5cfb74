// What `append` and `publish` are given alike: the event or the input to take events from, and what goes with each event.
import type { Command } from 'commander';
import { wrongUsage } from './command-error.ts';
import type { Payload } from './json-argument.ts';

export interface EventArguments {
  readonly type?: string | undefined;
  readonly key?: string | undefined;
  readonly visibleTo?: string | undefined;
  readonly idempotencyKey?: string | undefined;
}

export const addEventArguments = (command: Command): Command =>
  command
    .argument('<stream>')
    .argument('[json]', "the event's data as JSON; - or nothing reads NDJSON from standard input")
    .option('--type <type>', "the events' type")
    .option('--key <key>', "the events' key")
    .option('--visible-to <label>', 'the audience that may see the events over HTTP');

/**
 * Refuses what belongs to one event, by the names of the options, where each line of an input is one.
 *
 * @throws CommandError
 */
export function oneEventOnly(payload: Payload, given: Readonly<Record<string, string | undefined>>): void {
  if (payload.kind === 'value') return;
  for (const [option, text] of Object.entries(given)) {
    if (text !== undefined) throw wrongUsage(`${option} is for one event; give that as an argument`);
  }
}
