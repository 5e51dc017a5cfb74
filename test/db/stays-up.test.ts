// Guards that a process which reads or works stays up while Postgres is away, and goes on when it is back: a restart of the
// database must not end its consumers, silently and with exit code 0 at that. Only a process of its own can show it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'sluice';
import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { createProxy } from '../support/proxy.ts';
import { root } from '../support/tidy/files.ts';

const db = useDatabase({ allowOpenSessions: true });

const program = `
  import { connect, createNotifyBus } from 'sluice';
  const say = (text) => process.stdout.write(text + '\\n');
  const logger = { debug() {}, info() {}, error() {}, warn: (_, message) => say(message) };
  const work = {
    async subscribe() {
      const sluice = await connect({ logger });
      const subscription = sluice.stream('kept').subscribe({ after: 'end' });
      void subscription.ready.then(() => say('ready'));
      for await (const { offset } of subscription) say('got ' + offset);
    },
    async consume() {
      const sluice = await connect({ logger });
      await sluice.stream('kept').group('workers').consume(async ({ offset }) => say('got ' + offset));
    },
    async bus() {
      const bus = createNotifyBus({ logger });
      const messages = await bus.subscribe('kept');
      say('ready');
      for await (const { payload } of messages) if (payload) say('got ' + payload);
    },
  };
  void work[process.argv[1]]();
`;

test.each(['subscribe', 'consume', 'bus'])(
  '%s: the process outlives an outage of the database',
  async (mode) => {
    await using sluice = await connect({ connectionString: db.connectionString });
    const url = new URL(db.connectionString);
    using proxy = await createProxy({ targetPort: Number(url.port) });
    url.port = String(proxy.port);
    await sluice.stream('kept').append(0);
    const child = spawn(process.execPath, ['--input-type=module', '--eval', program, mode], {
      cwd: root,
      env: { ...process.env, DATABASE_URL: url.href },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      let said = '';
      let ended = false;
      child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
      const closed = once(child, 'close').then(() => (ended = true));
      const count = (text: string): number => said.split(text).length - 1;
      await until(() => ended || /ready|got/.test(said)); // a consumer has handled the first one then
      proxy.refuse();
      proxy.cut();
      await until(() => ended || count('could not connect') > 1);
      expect(ended).toBe(false);
      await proxy.accept();
      const before = count('got');
      await until(async () => {
        await (mode === 'bus' ? sluice.bus.notify('kept', 'x') : sluice.stream('kept').append(1));
        return ended || count('got') > before;
      });
      expect(ended).toBe(false);
      child.kill();
      await closed;
    } finally {
      child.kill('SIGKILL');
    }
  },
);
