// Guards the judgement that a listener is deaf: only a notification that was certainly sent and did not come says so.
import { expect, test } from 'vitest';
import { Pulse } from '../../src/listen/pulse.ts';
import { until } from '../support/diagnostics.ts';

const make = (
  send: () => Promise<boolean>,
): { readonly pulse: Pulse; readonly sent: () => number; readonly deaf: () => number } => {
  let [sent, deaf] = [0, 0];
  const pulse = new Pulse({
    deadlineMs: 5,
    onDeaf: () => (deaf += 1),
    send: () => {
      sent += 1;
      return send();
    },
  });
  return { pulse, sent: () => sent, deaf: () => deaf };
};

const yes = (): Promise<boolean> => Promise.resolve(true);
/** A deadline that began before has passed by now. */
const deadlinePassed = async (): Promise<void> => {
  const later = make(yes);
  await later.pulse.beat();
  await until(() => later.deaf() === 1);
};

test('what is sent and not heard in time is deafness, told once', async () => {
  const { pulse, deaf } = make(yes);
  await pulse.beat();
  await until(() => deaf() === 1);
});

test('what is heard in time is none, and a beat in which anything was heard sends nothing', async () => {
  const { pulse, sent, deaf } = make(yes);
  await pulse.beat();
  pulse.heard();
  await pulse.beat();
  expect({ sent: sent(), deaf: deaf() }).toEqual({ sent: 1, deaf: 0 });
  await pulse.beat();
  expect(sent()).toBe(2);
  pulse.stop();
});

test('what could not be sent, was held back, or came before the answer says nothing of the listener', async () => {
  for (const send of [
    (): Promise<boolean> => Promise.reject(new Error('pool')),
    () => Promise.resolve(false),
  ]) {
    const { pulse, deaf } = make(send);
    await pulse.beat();
    await deadlinePassed();
    expect(deaf()).toBe(0);
  }
  const early = make(() => {
    early.pulse.heard();
    return yes();
  });
  await early.pulse.beat();
  expect(await early.pulse.proven()).toBe(true);
  await deadlinePassed();
  expect(early.deaf()).toBe(0);
});

test('a proof fails in time, and not because the session has ended', async () => {
  expect(await make(yes).pulse.proven()).toBe(false);
  const { pulse } = make(yes);
  const proven = pulse.proven();
  await Promise.resolve();
  pulse.stop();
  expect(await proven).toBe(true);
  const unsent = make(() => new Promise(() => {})).pulse;
  const waiting = unsent.proven();
  unsent.stop();
  expect(await waiting).toBe(true);
  await expect(make(() => Promise.reject(new Error('pool'))).pulse.proven()).rejects.toThrow('pool');
  await expect(make(() => Promise.resolve(false)).pulse.proven()).rejects.toMatchObject({
    code: 'overloaded',
  });
});
