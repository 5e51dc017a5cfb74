// Guards that one signal ends a command, whoever keeps it waiting: a reader who does not read, a server that does not
// answer. Nobody should have to send a second one.
import { once } from 'node:events';
import { createServer } from 'node:net';
import { connect } from 'sluice';
import { expect, onTestFinished, test } from 'vitest';
import { useCommands } from '../support/commands.ts';
import { useDatabase } from '../support/database.ts';

const db = useDatabase();
const { start } = useCommands(db);

test.each(['tail', 'tail --follow'])('I11: %s whose output nobody reads', async (line) => {
  await using client = await connect({ connectionString: db.connectionString });
  const large = Array.from({ length: 40 }, () => ({ data: 'x'.repeat(100_000) }));
  if ((await client.stream('large').info()) === null) await client.stream('large').appendMany(large);
  const tail = start([...line.split(' '), 'large']);
  const { child } = tail;
  child.stdout.once('data', () => child.stdout.pause()); // what is left does not fit into what lies between
  await tail.says(/^1\t/);
  tail.kill('SIGTERM');
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
  expect(signal).toBeNull();
  if (line === 'tail') expect(code).toBe(1); // following is done when it is stopped, whatever was read of it
  child.stdout.resume();
});

test.each(['doctor', 'streams', 'migrate', 'migrate --status'])(
  'I11: %s with a server that takes connections and never answers',
  async (line) => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    const { port } = server.address() as { port: number };
    const command = start(line.split(' '), {
      env: { DATABASE_URL: `postgres://u:p@127.0.0.1:${port}/none` },
    });
    await once(server, 'connection');
    command.kill('SIGINT');
    expect(await command.finished).toEqual({ code: 1, stdout: '', stderr: 'error: interrupted by SIGINT\n' });
  },
);
