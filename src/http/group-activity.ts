// What the consumers of this process have done, by group, as told on Sluice's diagnostics channels. Only counts. Groups are
// named by programs, and yet a program may make one for each of its users: of so many each has its own counts, those
// that come later share one.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { DiagnosticsName } from '../util/diagnostics.ts';

/** Groups with counts of their own. */
export const MAX_GROUPS = 100;
/** What those beyond are called. No stream can have this name. */
const OTHERS = '\n';

type Count = 'claims' | 'events' | 'failures' | 'dead' | 'lost' | 'missed';

export interface GroupCounts extends Record<Count, number> {
  /** Null, as the group: all beyond the first so many. */
  readonly stream: string | null;
  readonly group: string | null;
}

type Message = Readonly<Record<string, unknown>>;

export class GroupActivity {
  readonly #groups = new Map<string, GroupCounts>();
  readonly #heard: readonly (readonly [DiagnosticsName, (message: unknown) => void])[];

  constructor() {
    const on = (name: DiagnosticsName, count: Count, amount: (message: Message) => number) =>
      [name, (message: unknown) => this.#add(message as Message, count, amount)] as const;
    this.#heard = [
      on('sluice:group.claimed', 'claims', () => 1),
      on('sluice:group.claimed', 'events', eventsOf),
      on('sluice:group.failed', 'failures', () => 1),
      on('sluice:group.died', 'dead', eventsOf),
      on('sluice:group.lost', 'lost', () => 1),
      on('sluice:group.missed', 'missed', eventsOf),
    ];
    for (const [name, hear] of this.#heard) subscribe(name, hear);
  }

  /** In the order in which they were first heard of. */
  get counts(): GroupCounts[] {
    return [...this.#groups.values()];
  }

  close(): void {
    for (const [name, hear] of this.#heard) unsubscribe(name, hear);
  }

  #add(message: Message, count: Count, amount: (message: Message) => number): void {
    this.#of(String(message['stream']), String(message['group']))[count] += amount(message);
  }

  #of(stream: string, group: string): GroupCounts {
    const known = this.#groups.get(keyOf(stream, group));
    if (known) return known;
    if (this.#groups.size >= MAX_GROUPS) return this.#groups.get(OTHERS) ?? this.#begin(OTHERS, null, null);
    return this.#begin(keyOf(stream, group), stream, group);
  }

  #begin(key: string, stream: string | null, group: string | null): GroupCounts {
    const counts = { stream, group, claims: 0, events: 0, failures: 0, dead: 0, lost: 0, missed: 0 };
    this.#groups.set(key, counts);
    return counts;
  }
}

/** Names hold no control characters. */
const keyOf = (stream: string, group: string): string => `${stream}\n${group}`;

const eventsOf = ({ events }: Message): number => Number(events);
