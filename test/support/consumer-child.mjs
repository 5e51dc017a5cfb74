// A process that consumes in one group through the built package, for what only another process can show: it can be
// killed, and stopped while its leases run out. What its handlers do they write to the table `effects`, in the
// transaction that acknowledges or without one. Says on standard output what befalls it, one JSON value per line. Takes
// the line `go`, which lets a handler go on that waits; ends when standard input does. Argument: Settings as JSON.
import { createInterface } from 'node:readline';
import { subscribe } from 'node:diagnostics_channel';
import { Pool } from 'pg';
import { connect, SluiceError } from 'sluice';

/** @type {import('./consumer-process.ts').Settings} */
const settings = JSON.parse(process.argv[2] ?? '{}');
const { stream, group, transactional, failing = 0, hold, poison } = settings;

/** @param {import('./consumer-process.ts').Said} message */
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

const closing = new AbortController();
/** @type {(() => void) | undefined} */
let goOn;
const commands = createInterface({ input: process.stdin });
commands.on('line', () => goOn?.());
commands.once('close', () => closing.abort());
subscribe('sluice:group.lost', () => say({ lost: true }));

/** Backends are killed: what failed for that is tried again. @template T @param {() => Promise<T>} work */
const insist = async (work) => {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof SluiceError && error.retryable) || closing.signal.aborted) throw error;
    }
  }
};

const pool = new Pool({
  connectionString: settings.connect.connectionString,
  max: 4,
  application_name: 'handler',
});
pool.on('error', () => {});
pool.on('connect', (client) => client.on('error', () => {}));

/** In [0, 1), the same for the same event and attempt. @param {bigint} offset @param {number} attempt */
const drawn = (offset, attempt) => {
  const mixed = Math.imul(Number(offset) * 31 + attempt, 0x9e3779b1) ^ settings.seed;
  return ((Math.imul(mixed ^ (mixed >>> 15), 0x85ebca6b) ^ (mixed >>> 13)) >>> 0) / 2 ** 32;
};

/**
 * @param {import('sluice').SqlExecutor} on
 * @param {import('sluice').StreamEvent<unknown>} event
 * @param {number} attempt
 */
const write = (on, { offset, key }, attempt) =>
  on.query(
    `insert into effects (grp, "offset", key, attempt, pid, saw)
     select $1, $2, $3, $4, $5, (select max("offset") from effects where grp = $1 and key = $3)`,
    [group, String(offset), key, String(attempt), String(process.pid)],
  );

/** @param {import('sluice').StreamEvent<unknown>} event @param {import('sluice').HandlerContext} context */
const handle = async (event, { attempt, transaction }) => {
  const { offset } = event;
  if (poison !== undefined && offset === BigInt(poison)) process.kill(process.pid, 'SIGKILL');
  const fate = attempt > 3 ? 1 : drawn(offset, attempt) / failing;
  const midway = async () => {
    if (hold !== undefined && offset === BigInt(hold)) {
      const going = new Promise((resolve) => (goOn = () => resolve(undefined)));
      say({ holding: String(offset) });
      await going;
    }
    if (fate < 0.5) throw new Error('before the end');
  };
  try {
    if (!transactional) {
      await write(pool, event, attempt);
      await midway();
    } else
      await transaction(async (tx) => {
        await write(tx, event, attempt);
        await midway();
      });
  } catch (error) {
    if (error instanceof SluiceError) say({ refused: error.code, offset: String(offset) });
    throw error;
  }
  if (fate < 1) throw new Error('after the end');
};

/**
 * All of a batch share the fate of its first event.
 * @param {import('sluice').StreamEvent<unknown>[]} events
 * @param {import('sluice').BatchContext} context
 */
const handleBatch = async (events, { attempt, transaction }) => {
  const first = events[0]?.offset ?? 0n;
  const fate = attempt(first) > 3 ? 1 : drawn(first, attempt(first)) / failing;
  await transaction(async (tx) => {
    for (const event of events) await write(tx, event, attempt(event.offset));
    if (fate < 0.5) throw new Error('before the end');
  });
  if (fate < 1) throw new Error('after the end');
};

let counted = 0;
const count = async () => {
  counted += 1;
  if (counted % 100_000 === 0) say({ counted });
};

const sluice = await insist(async () => connect(settings.connect));
say({ ready: true });
const options = { ...settings.consume, signal: closing.signal };
const consumed = sluice.stream(stream).group(group, settings.options);
await insist(async () => {
  if (settings.handler === 'batch') await consumed.consumeBatch(handleBatch, options);
  else await consumed.consume(settings.handler === 'count' ? count : handle, options);
});
await sluice.close();
await pool.end();
commands.close();
