// Guards the gathering of appends: one caller's order, the harmlessness of a bad or held neighbour, every bound, and an
// outcome for whatever was accepted. The database is a script here: what it answers, and when, is the test's choice.
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { AppendCall, AppendGroup, AppendOutcome } from '../../src/log/append.ts';
import { Coalescer, type CoalescerOptions } from '../../src/log/coalescer.ts';
import type { Appended } from '../../src/log/lane.ts';
import { deferred, type Deferred } from '../../src/util/deferred.ts';
import { SluiceError } from '../../src/util/errors.ts';
import { until } from '../support/diagnostics.ts';
import { encodedOf } from '../support/records.ts';

interface Sent {
  readonly groups: readonly AppendGroup[];
  readonly call: AppendCall;
  readonly answer: Deferred<AppendOutcome[]>;
}

const ok = ({ events }: AppendGroup, first: bigint): AppendOutcome => ({
  kind: 'ok',
  incarnation: 1n,
  first,
  previousTag: 0,
  rung: false,
  atMs: 0,
  tags: Int32Array.from(events, (_, index) => Number(first) + index),
});

const scripted = (options: Partial<CoalescerOptions> = {}) => {
  const sent: Sent[] = [];
  const committed: string[] = [];
  const coalescer = new Coalescer({
    autoCreate: true,
    lockWaitMs: 60_000,
    maxQueuedEvents: 1000,
    maxQueuedBytes: 1_000_000,
    send: (groups, call) => {
      const answer = deferred<AppendOutcome[]>();
      sent.push({ groups, call, answer });
      return answer.promise;
    },
    committed: ({ stream, events }, { first }) => committed.push(`${stream}@${first}+${events.length}`),
    ...options,
  });
  return { coalescer, sent, committed };
};

/** What was sent in a call: `a:1,2 b:3`. */
const shown = ({ groups }: Sent): string =>
  groups.map(({ stream, events }) => `${stream}:${events.map(({ data }) => data).join(',')}`).join(' ');

/** Long enough for everything that is going to happen without an answer. */
const quiet = async (): Promise<void> => {
  for (let turns = 0; turns < 5; turns += 1) await new Promise((resolve) => setImmediate(resolve));
};

const codeOf = (promise: Promise<Appended>): Promise<string> =>
  promise.then(
    () => 'ok',
    (error: unknown) => (error instanceof SluiceError ? error.code : String(error)),
  );

describe('gathering', () => {
  test('what is appended in one turn goes in one call, each stream’s events together and in order', async () => {
    const { coalescer, sent, committed } = scripted();
    const appended = ['a', 'b', 'a', 'c', 'a'].map((stream, index) =>
      coalescer.append(stream, [encodedOf(String(index))]),
    );
    await until(() => sent.length === 1);
    expect(shown(sent[0]!)).toBe('a:0,2,4 b:1 c:3');
    sent[0]!.answer.resolve(sent[0]!.groups.map((group, index) => ok(group, BigInt(10 * (index + 1)))));
    const results = await Promise.all(appended);
    expect(results.map(({ first, last, lastTag }) => [first, last, lastTag])).toEqual([
      [10n, 10n, 10],
      [20n, 20n, 20],
      [11n, 11n, 11],
      [30n, 30n, 30],
      [12n, 12n, 12],
    ]);
    expect(committed).toEqual(['a@10+3', 'b@20+1', 'c@30+1']);
  });

  test('I1: one stream has one call under way at a time; what comes meanwhile waits for it', async () => {
    const { coalescer, sent } = scripted();
    const first = coalescer.append('a', [encodedOf('1')]);
    await until(() => sent.length === 1);
    const second = coalescer.append('a', [encodedOf('2')]);
    const other = coalescer.append('b', [encodedOf('3')]);
    await until(() => sent.length === 2);
    await quiet();
    expect(sent.map(shown)).toEqual(['a:1', 'b:3']);
    sent[0]!.answer.resolve([ok(sent[0]!.groups[0]!, 1n)]);
    await until(() => sent.length === 3);
    expect(shown(sent[2]!)).toBe('a:2');
    sent[2]!.answer.resolve([ok(sent[2]!.groups[0]!, 2n)]);
    sent[1]!.answer.resolve([ok(sent[1]!.groups[0]!, 1n)]);
    expect((await Promise.all([first, second, other])).map(({ last }) => last)).toEqual([1n, 2n, 1n]);
  });

  test('I7: four calls at most are under way, and one that ends makes room for a stream that waits', async () => {
    const { coalescer, sent } = scripted();
    for (const [index, stream] of ['a', 'b', 'c', 'd'].entries()) {
      void coalescer.append(stream, [encodedOf('1')]);
      await until(() => sent.length === index + 1);
    }
    const late = coalescer.append('e', [encodedOf('1')]);
    await quiet();
    expect(sent).toHaveLength(4);
    for (const { answer, groups } of sent.slice()) answer.resolve([ok(groups[0]!, 1n)]);
    await until(() => sent.length === 5);
    sent[4]!.answer.resolve([ok(sent[4]!.groups[0]!, 1n)]);
    expect(await codeOf(late)).toBe('ok');
  });

  test('I7: a call takes a bounded number of events, but never less than one append', async () => {
    const { coalescer, sent } = scripted({ maxQueuedEvents: 100_000 });
    const many = Array.from({ length: 1500 }, () => encodedOf('1'));
    const appended = [many, many, [...many, ...many]].map((events) => coalescer.append('a', events));
    for (const [index, count] of [1500, 1500, 3000].entries()) {
      await until(() => sent.length === index + 1);
      expect(sent[index]!.groups[0]!.events).toHaveLength(count);
      sent[index]!.answer.resolve([ok(sent[index]!.groups[0]!, BigInt(index * 1500 + 1))]);
    }
    expect((await Promise.all(appended)).map(({ last }) => last)).toEqual([1500n, 3000n, 6000n]);
  });
});

test('I7: a call takes a bounded number of streams, and those that always have more do not starve the others', async () => {
  const { coalescer, sent } = scripted({ maxQueuedEvents: 100_000 });
  const names = Array.from({ length: 1500 }, (_, n) => `s${n}`);
  const all = names.map((name) => coalescer.append(name, [encodedOf('1')]));
  await quiet();
  expect(sent.map(({ groups }) => groups.length)).toEqual([250, 250, 250, 250]);
  // Those under way have more to write already.
  for (const name of names.slice(0, 1000)) all.push(coalescer.append(name, [encodedOf('2')]));
  const answer = ({ answer, groups }: Sent): void => answer.resolve(groups.map((group) => ok(group, 1n)));
  for (const call of sent.slice(0, 4)) answer(call);
  await quiet();
  expect(sent[4]?.groups[0]?.stream).toBe('s1000');
  expect(sent[5]?.groups.at(-1)?.stream).toBe('s1499');
  for (let next = 4; next < sent.length; next += 1) {
    answer(sent[next] as Sent);
    await quiet();
  }
  await Promise.all(all);
});

describe('a bad item', () => {
  const bad = new SluiceError('payload_invalid', 'nested too deeply');

  test('I7: fails alone; its neighbours, of its own stream and of others, are appended in order', async () => {
    const { coalescer, sent } = scripted();
    const appended = [
      coalescer.append('a', [encodedOf('1')]),
      coalescer.append('a', [encodedOf('bad')]),
      coalescer.append('a', [encodedOf('3')]),
      coalescer.append('b', [encodedOf('4')]),
    ];
    const outcomes = Promise.all(appended.map(codeOf));
    await until(() => sent.length === 1);
    sent[0]!.answer.reject(bad);
    for (const [index, expected] of ['a:1', 'a:bad', 'a:3', 'b:4'].entries()) {
      await until(() => sent.length === index + 2);
      const { answer, groups } = sent[index + 1]!;
      expect(shown(sent[index + 1]!)).toBe(expected);
      if (expected === 'a:bad') answer.reject(bad);
      else answer.resolve([ok(groups[0]!, BigInt(index + 1))]);
    }
    expect(await outcomes).toEqual(['ok', 'payload_invalid', 'ok', 'ok']);
  });

  test('I1: when a stream turns out to be held while its items go one by one, none overtakes another', async () => {
    const { coalescer, sent } = scripted();
    const appended = ['1', '2', 'bad', '4'].map((data) => coalescer.append('a', [encodedOf(data)]));
    const outcomes = Promise.all(appended.map(codeOf));
    await until(() => sent.length === 1);
    sent[0]!.answer.reject(bad);
    await until(() => sent.length === 2);
    sent[1]!.answer.resolve([ok(sent[1]!.groups[0]!, 1n)]);
    await until(() => sent.length === 3);
    sent[2]!.answer.resolve([{ kind: 'held' }]);
    const log = ['1'];
    for (let next = 3; log.length < 3; next += 1) {
      await until(() => sent.length > next);
      const { groups, answer } = sent[next]!;
      const data = groups[0]!.events.map((each) => each.data);
      if (data.includes('bad')) {
        answer.reject(bad);
      } else {
        answer.resolve([ok(groups[0]!, BigInt(log.length + 1))]);
        log.push(...data);
      }
    }
    expect(log).toEqual(['1', '2', '4']);
    expect(await outcomes).toEqual(['ok', 'ok', 'payload_invalid', 'ok']);
  });

  test('I2: after a lost connection nothing is sent again: it may have been committed', async () => {
    const { coalescer, sent } = scripted();
    const appended = [coalescer.append('a', [encodedOf('1')]), coalescer.append('b', [encodedOf('2')])];
    const outcomes = Promise.all(appended.map(codeOf));
    await until(() => sent.length === 1);
    sent[0]!.answer.reject(new SluiceError('connection_lost', 'gone'));
    expect(await outcomes).toEqual(['connection_lost', 'connection_lost']);
    await quiet();
    expect(sent).toHaveLength(1);
    const later = coalescer.append('a', [encodedOf('3')]);
    await until(() => sent.length === 2);
    sent[1]!.answer.resolve([ok(sent[1]!.groups[0]!, 5n)]);
    expect((await later).first).toBe(5n);
  });

  test('closed and missing streams fail with their code, and only they', async () => {
    const { coalescer, sent } = scripted();
    const outcomes = Promise.all(
      ['a', 'b', 'c'].map((stream) => codeOf(coalescer.append(stream, [encodedOf('1')]))),
    );
    await until(() => sent.length === 1);
    sent[0]!.answer.resolve([{ kind: 'closed' }, { kind: 'missing' }, ok(sent[0]!.groups[2]!, 1n)]);
    expect(await outcomes).toEqual(['stream_closed', 'stream_not_found', 'ok']);
  });
});

describe('a held stream', () => {
  test('interleaving 5: a call for several streams never waits; the held one is left for a call of its own', async () => {
    const { coalescer, sent } = scripted();
    const held = coalescer.append('held', [encodedOf('1')]);
    const free = coalescer.append('free', [encodedOf('2')]);
    await until(() => sent.length === 1);
    expect(sent[0]!.call.waitMs).toBe(0);
    sent[0]!.answer.resolve([{ kind: 'held' }, ok(sent[0]!.groups[1]!, 1n)]);
    expect(await codeOf(free)).toBe('ok');
    await until(() => sent.length === 2);
    expect(shown(sent[1]!)).toBe('held:1');
    expect(sent[1]!.call.waitMs).toBeGreaterThan(1000);
    sent[1]!.answer.resolve([ok(sent[1]!.groups[0]!, 1n)]);
    expect(await codeOf(held)).toBe('ok');
  });

  test('interleaving 5: however many are held, the free ones go on, and so does each that is let go', async () => {
    const { coalescer, sent } = scripted();
    const held = new Set(['h1', 'h2', 'h3', 'h4', 'h5']);
    const open = new Set<Sent>();
    let seen = 0;
    // As the server does: a call that may wait stays open while its stream is held, another leaves that stream out.
    const serve = (): void => {
      for (const each of sent.slice(seen)) open.add(each);
      seen = sent.length;
      for (const each of open) {
        if (each.call.waitMs > 0 && held.has(each.groups[0]!.stream)) continue;
        open.delete(each);
        each.answer.resolve(
          each.groups.map((group) => (held.has(group.stream) ? { kind: 'held' } : ok(group, 1n))),
        );
      }
    };
    const done: string[] = [];
    const append = (stream: string): Promise<unknown> =>
      coalescer.append(stream, [encodedOf('1')]).then(() => done.push(stream));
    const outcomes = [...held].map(append);
    await until(() => (serve(), open.size === 2)); // two may wait
    for (const stream of ['free 1', 'free 2', 'h4', 'free 3', 'h5']) {
      held.delete(stream);
      if (stream.startsWith('free')) outcomes.push(append(stream));
      await until(() => (serve(), done.at(-1) === stream));
    }
    expect([...open].map(shown)).toEqual(['h1:1', 'h2:1']);
    held.clear();
    await until(() => (serve(), done.length === outcomes.length));
    await Promise.all(outcomes);
  });

  test('I7: an append waits for its stream no longer than the bound; then it is overloaded, and nothing was appended', async () => {
    const { coalescer, sent } = scripted({ lockWaitMs: 1 });
    const outcome = codeOf(coalescer.append('a', [encodedOf('1')]));
    await until(() => sent.length === 1);
    sent[0]!.answer.reject(new SluiceError('overloaded', 'canceling statement due to lock timeout'));
    expect(await outcome).toBe('overloaded');
    const again = codeOf(coalescer.append('a', [encodedOf('2')]));
    for (let call = 1; ; call += 1) {
      const ended = await Promise.race([again, until(() => sent.length > call).then(() => undefined)]);
      if (ended !== undefined) break;
      sent[call]!.answer.resolve([{ kind: 'held' }]);
    }
    expect(await again).toBe('overloaded');
  });
});

describe('bounds and the end', () => {
  test('I7: past the bound in events or bytes an append is refused at once, and room comes back with outcomes', async () => {
    const { coalescer, sent } = scripted({ maxQueuedEvents: 3, maxQueuedBytes: 100 });
    const first = coalescer.append('a', [encodedOf('1'), encodedOf('2')]);
    expect(await codeOf(coalescer.append('b', [encodedOf('3'), encodedOf('4')]))).toBe('overloaded');
    expect(await codeOf(coalescer.append('b', [encodedOf('x'.repeat(99))]))).toBe('overloaded');
    await until(() => sent.length === 1);
    sent[0]!.answer.resolve([ok(sent[0]!.groups[0]!, 1n)]);
    await first;
    const large = coalescer.append('b', [encodedOf('x'.repeat(1000))]); // alone, one append may be larger than the bound
    await until(() => sent.length === 2);
    sent[1]!.answer.resolve([ok(sent[1]!.groups[0]!, 1n)]);
    expect(await codeOf(large)).toBe('ok');
  });

  test('I11: closing waits for what was accepted, and refuses what comes after', async () => {
    const { coalescer, sent } = scripted();
    const accepted = [coalescer.append('a', [encodedOf('1')]), coalescer.append('b', [encodedOf('2')])];
    let closed = false;
    const closing = (async () => {
      await coalescer.close();
      closed = true;
    })();
    expect(await codeOf(coalescer.append('a', [encodedOf('3')]))).toBe('closed');
    await until(() => sent.length === 1);
    sent[0]!.answer.resolve([{ kind: 'held' }, ok(sent[0]!.groups[1]!, 1n)]);
    await until(() => sent.length === 2);
    expect(closed).toBe(false);
    sent[1]!.answer.resolve([ok(sent[1]!.groups[0]!, 1n)]);
    await closing;
    expect(await Promise.all(accepted.map(codeOf))).toEqual(['ok', 'ok']);
    await coalescer.close();
  });
});

describe('under any schedule', () => {
  const append = fc.record({
    stream: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'),
    events: fc.array(
      fc.oneof({ weight: 12, arbitrary: fc.constant('good') }, { weight: 1, arbitrary: fc.constant('bad') }),
      {
        minLength: 1,
        maxLength: 3,
      },
    ),
  });
  /** How many calls find each stream held. */
  const holds = fc.record({ a: fc.constantFrom(0, 0, 0, 0, 1, 2), b: fc.constantFrom(0, 0, 0, 0, 0, 1) });

  test('I1: every good append gets the next offsets of its stream, in the order given; every bad one fails alone', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.array(append, { maxLength: 25 }),
        holds,
        async (scheduler, appends, held) => {
          const logs = new Map<string, string[]>();
          const heldFor = new Map<string, number>(Object.entries(held));
          const underWay = new Map<string, number>();
          const answer = (groups: readonly AppendGroup[]): AppendOutcome[] => {
            if (groups.some(({ events }) => events.some(({ data }) => data.startsWith('bad')))) {
              throw new SluiceError('payload_invalid', 'bad');
            }
            return groups.map((group): AppendOutcome => {
              const left = heldFor.get(group.stream) ?? 0;
              heldFor.set(group.stream, left - 1);
              if (left > 0) return { kind: 'held' };
              const log = logs.get(group.stream) ?? [];
              logs.set(group.stream, log);
              const first = BigInt(log.length + 1);
              log.push(...group.events.map(({ data }) => data));
              return ok(group, first);
            });
          };
          const { coalescer } = scripted({
            send: async (groups) => {
              for (const { stream } of groups) underWay.set(stream, (underWay.get(stream) ?? 0) + 1);
              expect(Math.max(...underWay.values())).toBe(1);
              try {
                await scheduler.schedule(Promise.resolve(), groups.map(({ stream }) => stream).join());
                return answer(groups);
              } finally {
                for (const { stream } of groups) underWay.set(stream, 0);
              }
            },
          });
          const results: Promise<Appended | string>[] = [];
          const begun = scheduler.scheduleSequence(
            appends.map(({ stream, events }, index) => async () => {
              const encoded = events.map((kind, n) => encodedOf(`${kind}${index}.${n}`));
              results.push(
                coalescer.append(stream, encoded).catch((error: unknown) => (error as SluiceError).code),
              );
            }),
          );
          await scheduler.waitFor(begun.task);
          const outcomes = await scheduler.waitFor(Promise.all(results));
          const expected = new Map<string, string[]>();
          for (const [index, { stream, events }] of appends.entries()) {
            const outcome = outcomes[index]!;
            if (events.includes('bad')) {
              expect(outcome).toBe('payload_invalid');
              continue;
            }
            const log = expected.get(stream) ?? [];
            expected.set(stream, log);
            expect(outcome).toMatchObject({
              first: BigInt(log.length + 1),
              last: BigInt(log.length + events.length),
            });
            log.push(...events.map((kind, n) => `${kind}${index}.${n}`));
          }
          expect(logs).toEqual(expected);
          await scheduler.waitFor(coalescer.close());
        },
      ),
      { numRuns: 150 },
    );
  });
});

test('I7: a call that waited in vain for a held stream rejects who waited long enough, and the others wait on', async () => {
  const { coalescer, sent } = scripted();
  const waiting = codeOf(coalescer.append('a', [encodedOf('1')]));
  await quiet();
  sent[0]?.answer.reject(new SluiceError('overloaded', 'lock timeout'));
  await until(() => sent.length === 2);
  expect(shown(sent[1] as Sent)).toBe('a:1');
  const group = sent[1]?.groups[0] as AppendGroup;
  sent[1]?.answer.resolve([ok(group, 1n)]);
  expect(await waiting).toBe('ok');

  const impatient = scripted({ lockWaitMs: 0 });
  const outcome = codeOf(impatient.coalescer.append('a', [encodedOf('1')]));
  await quiet();
  impatient.sent[0]?.answer.reject(new SluiceError('overloaded', 'lock timeout'));
  expect(await outcome).toBe('overloaded');
});
