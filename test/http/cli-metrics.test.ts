// Guards `sluice serve --metrics`: it does not start without a token worth the name, and tells nothing to who lacks it.
import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { parseExposition } from '../support/exposition.ts';
import { useCli, type Running } from '../support/process.ts';

const db = useDatabase({ allowOpenSessions: true });
const cli = useCli();
const token = 'a token of some length';

const start = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Running =>
  cli.start(['serve', '--allow-anonymous', ...args], {
    env: { DATABASE_URL: db.connectionString, PORT: '0', ...env },
  });
const listening = async (running: Running): Promise<string> =>
  (await running.says(/http:\/\/[\w.:[\]]+:[1-9]\d*/))[0];
const ask = async (origin: string, authorization?: string): Promise<Response> =>
  fetch(`${origin}/metrics`, { headers: authorization === undefined ? {} : { authorization } });

test.each([{}, { SLUICE_METRICS_TOKEN: '' }, { SLUICE_METRICS_TOKEN: 'too short' }])(
  'needs a token: %o',
  async (env) => {
    const { code, stdout, stderr } = await start(['--metrics'], env).finished;
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^error: --metrics needs SLUICE_METRICS_TOKEN, of at least 16 characters/);
  },
);

test('answers who has it, and nobody else', async () => {
  const serve = start(['--metrics'], { SLUICE_METRICS_TOKEN: token });
  const origin = await listening(serve);
  for (const wrong of [undefined, '', token, `Bearer ${token}x`, 'Bearer ', `Basic ${token}`]) {
    expect((await ask(origin, wrong)).status).toBe(404);
  }
  const response = await ask(origin, `Bearer ${token}`);
  expect(response.status).toBe(200);
  const metrics = parseExposition(await response.text());
  expect(metrics.get('sluice_database_up')?.samples.get('sluice_database_up')).toBe(1);
  serve.kill('SIGTERM');
  expect(await serve.finished).toMatchObject({ code: 0 });
});

test('is closed without the option, whatever the environment says', async () => {
  const serve = start([], { SLUICE_METRICS_TOKEN: token });
  expect((await ask(await listening(serve), `Bearer ${token}`)).status).toBe(404);
  serve.kill('SIGTERM');
  await serve.finished;
});
