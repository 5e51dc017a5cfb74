// Guards I2 and I4 where the server ends the listener's session in the middle of a LISTEN. It says so in the place of an
// answer, before the connection is closed: no refusal of the channel, which nobody would listen to any more.
import { connect, createNotifyBus } from 'sluice';
import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { targetOf, through } from '../support/deaf-proxy.ts';
import { nextMessage } from '../support/diagnostics.ts';
import { MessageProxy, type Edit } from '../support/message-proxy.ts';

const db = useDatabase();

const COMMAND_COMPLETE = 'C'.charCodeAt(0);

/** What a backend says that is terminated. */
function fatal(): Buffer {
  const fields = ['SFATAL', 'VFATAL', 'C57P01', 'Mterminating connection due to administrator command'];
  const body = Buffer.from(`${fields.join('\0')}\0\0`);
  const header = Buffer.alloc(5, 'E');
  header.writeInt32BE(4 + body.length, 1);
  return Buffer.concat([header, body]);
}

/** Ends the session that listens next, once. */
class Ending {
  armed = false;

  edit(): Edit {
    let over = false;
    return (message) => {
      if (over) return undefined;
      if (!this.armed || message[0] !== COMMAND_COMPLETE || !message.includes('LISTEN')) return message;
      this.armed = false;
      over = true;
      return fatal();
    };
  }
}

test('I4: a bus listens to the channel over its next session', async () => {
  const ending = new Ending();
  using proxy = new MessageProxy(targetOf(db.connectionString), () => ending.edit());
  await proxy.listen();
  await using bus = createNotifyBus({
    connectionString: db.connectionString,
    listenConnectionString: through(proxy, db.connectionString),
  });
  await bus.subscribe('early');
  ending.armed = true;
  const notices = (await bus.subscribe('late'))[Symbol.asyncIterator]();
  expect([ending.armed, bus.generation]).toEqual([false, 2]);
  await bus.notify('late', 'heard');
  expect((await notices.next()).value).toMatchObject({ kind: 'message', payload: 'heard' });
});

test('I2: a stream that is subscribed to is delivered live, and so is the next one', async () => {
  const ending = new Ending();
  using proxy = new MessageProxy(targetOf(db.connectionString), () => ending.edit());
  await proxy.listen();
  const options = { connectionString: db.connectionString, fallbackPollMs: 600_000 };
  await using writing = await connect(options);
  const listenConnectionString = through(proxy, db.connectionString);
  await using reading = await connect({ ...options, listenConnectionString, relay: false });
  await writing.createStream('orders');
  ending.armed = true;
  const back = nextMessage('sluice:listener.connected');
  for (const n of [1, 2]) {
    const events = reading.stream('orders').subscribe({ after: 'end' });
    await events.ready;
    await back;
    expect(ending.armed).toBe(false);
    await writing.stream('orders').append(n);
    for await (const { data } of events) {
      expect(data).toBe(n);
      break;
    }
  }
});
