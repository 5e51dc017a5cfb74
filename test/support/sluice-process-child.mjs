// A process that uses the built package, for what only another process can show: it can be killed, and stopped while
// its connections stay. Says on standard output what it sees, one JSON value per line: `ready`, the relay role gained
// or lost, each event its readers get. Takes one JSON command per line: `{ follow: { name, stream, after } }`. Ends
// when standard input does. Argument: the options of connect as JSON.
import { subscribe } from 'node:diagnostics_channel';
import { createInterface } from 'node:readline';
import { connect, SluiceError } from 'sluice';

/** @param {unknown} message */
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

subscribe('sluice:relay.role', (message) => say({ role: message }));

/** @param {unknown} error */
const mayBeTriedAgain = (error) => error instanceof SluiceError && error.retryable;

/** @returns {Promise<import('sluice').Sluice>} */
const open = () =>
  connect(JSON.parse(process.argv[2] ?? '{}')).catch((error) => {
    if (mayBeTriedAgain(error)) return open();
    throw error;
  });

const sluice = await open();
const closing = new AbortController();

/** @param {{ name: string, stream: string, after: string }} options */
const follow = async ({ name, stream, after }) => {
  let position = after;
  for (let failed = false; !failed && !closing.signal.aborted;) {
    try {
      const events = sluice.stream(stream).subscribe({ after: position, signal: closing.signal });
      for await (const { offset, data, cursor } of events) {
        const { value } = /** @type {{ value: string }} */ (data);
        say({ event: { name, offset: String(offset), value, cursor } });
        position = cursor;
      }
    } catch (error) {
      const missing = error instanceof SluiceError && error.code === 'stream_not_found';
      failed = !missing && !mayBeTriedAgain(error);
      if (failed) say({ failed: { name, message: String(error) } });
      else await new Promise((done) => setImmediate(done));
    }
  }
};

const commands = createInterface({ input: process.stdin });
commands.on('line', (line) => void follow(JSON.parse(line).follow));
commands.once('close', () => {
  closing.abort();
  void sluice.close();
});
say({ ready: true });
