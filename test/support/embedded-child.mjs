// A program that starts a server through the built package, for tests of what only another process can show: another
// user, a killed owner, a Ctrl-C. Says what happened on standard output, one JSON value per line; the server's end is
// asked for by closing standard input, or by SIGINT, after which the server must still answer.
// Arguments: the options of startPostgres as JSON, and `leave` to do nothing more once the server runs, or `testing` to
// make two databases with createTestDatabase instead, and nothing more.
import { Client } from 'pg';
import { startPostgres } from 'sluice/embedded';
import { createTestDatabase } from 'sluice/testing';

/** @param {unknown} message */
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

/** @param {import('sluice/embedded').RunningPostgres} postgres */
const useAndStop = async (postgres) => {
  const client = new Client({ connectionString: postgres.connectionString });
  await client.connect();
  const { rows } = await client.query(`select 'still here' as answer`);
  await client.end();
  await postgres.stop();
  say(rows[0]);
};

const [options = '{}', mode] = process.argv.slice(2);
try {
  if (mode === 'testing') {
    for (const { connectionString } of [await createTestDatabase(), await createTestDatabase()]) {
      say({ connectionString });
    }
  } else {
    const postgres = await startPostgres(JSON.parse(options));
    if (mode !== 'leave') {
      process.once('SIGINT', () => {
        process.stdin.destroy();
        void useAndStop(postgres);
      });
      process.stdin.once('end', () => void useAndStop(postgres));
      process.stdin.resume();
    }
    const { connectionString, dataDir, port, version } = postgres;
    say({ connectionString, dataDir, port, version });
  }
} catch (error) {
  say({ error: error instanceof Error ? error.message : String(error) });
}
