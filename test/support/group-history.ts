// Owns the judgement of what groups did with a log: which of I5 and I6 it breaks, and how. Pure, and knows nothing of
// Postgres, so that other designs can be judged alike. An effect is what a handler left behind: of one that promises
// exactly once, what its transaction committed; of one that does not, that it was called.

export interface LogEntry {
  readonly offset: bigint;
  readonly key: string | null;
}

export interface Effect extends LogEntry {
  /** Of one sequence, in the order in which effects were written. */
  readonly seq: number;
  /** The last effect on its key that was committed then; null: there was none. */
  readonly saw: bigint | null;
}

export interface GroupRecord {
  readonly name: string;
  readonly promise: 'at least once' | 'exactly once';
  /** Whether the events of one key go in order. */
  readonly ordered: boolean;
  readonly effects: readonly Effect[];
  /** Offsets that were given up. */
  readonly dead: readonly bigint[];
}

export interface GroupHistory {
  readonly log: readonly LogEntry[];
  readonly groups: readonly GroupRecord[];
  /** Events that somebody saw in two places at once: in two leases, or in one and waiting to be handed out. */
  readonly shared: readonly { readonly group: string; readonly offsets: string }[];
}

export type GroupRule =
  | 'I5 lost' // never handled, and not given up
  | 'I5 given up' // though its handlers do not fail for ever
  | 'I5 doubled' // two effects, where one was promised
  | 'I5 made up' // no such event
  | 'I5 shared' // in two hands at once
  | 'I6 order'; // after an event of its key that comes later, or without the one before it

export interface GroupViolation {
  readonly rule: GroupRule;
  readonly detail: string;
}

/** Everything that is wrong with the history; empty when nothing is. */
export function checkGroups({ log, groups, shared }: GroupHistory): GroupViolation[] {
  const keys = new Map(log.map(({ offset, key }) => [offset, key]));
  return [
    ...groups.flatMap((group) => [
      ...checkPresence(group, keys),
      ...(group.ordered ? checkOrder(group, previousOfKey(log)) : []),
    ]),
    ...shared.map(({ group, offsets }): GroupViolation => {
      return { rule: 'I5 shared', detail: `${group}: ${offsets} in two places at once` };
    }),
  ];
}

/** @throws Error that says what is wrong, and how often */
export function assertHandled(history: GroupHistory): void {
  const found = new Map<GroupRule, string[]>();
  for (const { rule, detail } of checkGroups(history)) found.set(rule, [...(found.get(rule) ?? []), detail]);
  const told = [...found].map(
    ([rule, details]) => `${rule}: ${details.length}, such as ${details.slice(0, 5).join('; ')}`,
  );
  if (told.length > 0) throw new Error(`the groups are not sound:\n${told.join('\n')}`);
}

function checkPresence(
  { name, promise, effects, dead }: GroupRecord,
  keys: ReadonlyMap<bigint, string | null>,
): GroupViolation[] {
  const found: GroupViolation[] = [];
  const times = new Map<bigint, number>();
  for (const { offset, key } of effects) {
    times.set(offset, (times.get(offset) ?? 0) + 1);
    if (keys.get(offset) === key) continue;
    found.push({
      rule: 'I5 made up',
      detail: `${name}@${offset}: key ${key}, in the log ${keys.get(offset)}`,
    });
  }
  const isDead = new Set(dead);
  for (const offset of keys.keys()) {
    const count = times.get(offset) ?? 0;
    if (isDead.has(offset)) found.push({ rule: 'I5 given up', detail: `${name}@${offset}` });
    else if (count === 0) found.push({ rule: 'I5 lost', detail: `${name}@${offset}` });
    if (count < 2 || promise === 'at least once') continue;
    found.push({ rule: 'I5 doubled', detail: `${name}@${offset}: ${count} effects` });
  }
  return found;
}

function previousOfKey(log: readonly LogEntry[]): Map<bigint, bigint | null> {
  const last = new Map<string, bigint>();
  const previous = new Map<bigint, bigint | null>();
  for (const { offset, key } of log) {
    if (key === null) continue;
    previous.set(offset, last.get(key) ?? null);
    last.set(key, offset);
  }
  return previous;
}

function checkOrder({ name, effects }: GroupRecord, previous: Map<bigint, bigint | null>): GroupViolation[] {
  const found: GroupViolation[] = [];
  const last = new Map<string, bigint>();
  for (const { offset, key, saw } of effects.toSorted((a, b) => a.seq - b.seq)) {
    if (key === null) continue;
    const before = last.get(key) ?? 0n;
    const at = `${name}@${offset} (key ${key})`;
    if (offset < before) found.push({ rule: 'I6 order', detail: `${at} after ${before}` });
    else if (saw !== (previous.get(offset) ?? null))
      found.push({ rule: 'I6 order', detail: `${at} saw ${saw} done, not ${previous.get(offset)}` });
    last.set(key, offset);
  }
  return found;
}
