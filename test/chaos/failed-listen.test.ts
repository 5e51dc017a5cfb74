// Guards I2 and I4 where a LISTEN fails for a reason that has nothing to do with its channel: the server ends the session,
// and says so in the place of an answer before the connection is closed, or it cancels the statement. No refusal of the
// channel, which nobody would listen to any more.
import { connect, createNotifyBus } from 'sluice';
import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { targetOf, through } from '../support/deaf-proxy.ts';
import { nextMessage } from '../support/diagnostics.ts';
import { MessageProxy, type Edit } from '../support/message-proxy.ts';

const db = useDatabase();

const COMMAND_COMPLETE = 'C'.charCodeAt(0);

/** What a backend says that is terminated, or that took longer than `statement_timeout` allows. */
const FAILURES = {
  terminated: ['SFATAL', 'VFATAL', 'C57P01', 'Mterminating connection due to administrator command'],
  cancelled: ['SERROR', 'VERROR', 'C57014', 'Mcanceling statement due to statement timeout'],
};

function messageOf(fields: readonly string[]): Buffer {
  const body = Buffer.from(`${fields.join('\0')}\0\0`);
  const header = Buffer.alloc(5, 'E');
  header.writeInt32BE(4 + body.length, 1);
  return Buffer.concat([header, body]);
}

/** Fails the LISTEN that comes next, once. */
class Failing {
  armed = false;
  readonly #message: Buffer;
  readonly #isOver: boolean;

  constructor(failure: keyof typeof FAILURES) {
    this.#message = messageOf(FAILURES[failure]);
    this.#isOver = failure === 'terminated';
  }

  edit(): Edit {
    let over = false;
    return (message) => {
      if (over) return undefined;
      if (!this.armed || message[0] !== COMMAND_COMPLETE || !message.includes('LISTEN')) return message;
      this.armed = false;
      over = this.#isOver;
      return this.#message;
    };
  }
}

const failures = ['terminated', 'cancelled'] as const;

test.each(failures)('I4: %s, a bus listens to the channel over its next session', async (failure) => {
  const failing = new Failing(failure);
  using proxy = new MessageProxy(targetOf(db.connectionString), () => failing.edit());
  await proxy.listen();
  await using bus = createNotifyBus({
    connectionString: db.connectionString,
    listenConnectionString: through(proxy, db.connectionString),
  });
  await bus.subscribe('early');
  failing.armed = true;
  const notices = (await bus.subscribe('late'))[Symbol.asyncIterator]();
  expect([failing.armed, bus.generation]).toEqual([false, 2]);
  await bus.notify('late', 'heard');
  expect((await notices.next()).value).toMatchObject({ kind: 'message', payload: 'heard' });
});

test.each(failures)(
  'I2: %s, a stream that is subscribed to is delivered live, and so is the next one',
  async (failure) => {
    const failing = new Failing(failure);
    using proxy = new MessageProxy(targetOf(db.connectionString), () => failing.edit());
    await proxy.listen();
    const options = { connectionString: db.connectionString, fallbackPollMs: 600_000 };
    await using writing = await connect(options);
    const listenConnectionString = through(proxy, db.connectionString);
    await using reading = await connect({ ...options, listenConnectionString, relay: false });
    await writing.createStream(failure);
    failing.armed = true;
    const back = nextMessage('sluice:listener.connected');
    for (const n of [1, 2]) {
      const events = reading.stream(failure).subscribe({ after: 'end' });
      await events.ready;
      await back;
      expect(failing.armed).toBe(false);
      await writing.stream(failure).append(n);
      for await (const { data } of events) {
        expect(data).toBe(n);
        break;
      }
    }
  },
);
