// Guards the two ways in which tests wait: a wait that resolves for the wrong message, or never gives up, would make
// every other test worthless.
import { channel } from 'node:diagnostics_channel';
import { describe, expect, test } from 'vitest';
import { nextMessage, until } from '../support/diagnostics.ts';

describe('nextMessage', () => {
  const name = 'sluice:test.waiting';

  test('resolves with the first message that matches, from the call on', async () => {
    channel(name).publish({ n: 0 });
    const message = nextMessage<{ n: number }>(name, ({ n }) => n % 2 === 0);
    for (const n of [1, 2, 4]) channel(name).publish({ n });
    expect(await message).toEqual({ n: 2 });
    expect(channel(name).hasSubscribers).toBe(false);
  });

  test('gives up at its deadline and says what it saw', async () => {
    const message = nextMessage(name, () => false, { deadlineMs: 5 });
    channel(name).publish({});
    await expect(message).rejects.toThrow(/no message on sluice:test\.waiting within 5 ms: 1 came/);
    expect(channel(name).hasSubscribers).toBe(false);
  });

  test('rejects with the reason of its signal', async () => {
    const reason = new Error('enough');
    const controller = new AbortController();
    const message = nextMessage(name, undefined, { signal: controller.signal });
    controller.abort(reason);
    await expect(message).rejects.toBe(reason);
    await expect(nextMessage(name, undefined, { signal: controller.signal })).rejects.toBe(reason);
    expect(channel(name).hasSubscribers).toBe(false);
  });

  test('a predicate that throws fails the wait, not the publisher', async () => {
    const message = nextMessage(name, () => {
      throw new Error('bad predicate');
    });
    channel(name).publish({});
    await expect(message).rejects.toThrow('bad predicate');
  });
});

describe('until', () => {
  test('checks again until the condition holds', async () => {
    let checks = 0;
    await until(() => Promise.resolve((checks += 1) === 3));
    expect(checks).toBe(3);
  });

  test('gives up at its deadline and shows the condition', async () => {
    const never = false;
    await expect(until(() => never, { deadlineMs: 5 })).rejects.toThrow(/not within 5 ms: \(\) => never/);
  });

  test('passes on what the condition throws and the reason of its signal', async () => {
    await expect(until(() => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
    await expect(until(() => false, { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow(
      'enough',
    );
  });
});
