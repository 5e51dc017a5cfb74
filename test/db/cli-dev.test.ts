// Guards `sluice dev` on a Postgres of its own: it starts from an empty folder, other commands find it by that folder,
// it ends cleanly by signal, survives being killed, and leaves nothing behind that could mislead or be read by others.
import { exec } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { makeDataFolder, removeFolder, serverPid } from '../support/embedded-server.ts';
import { useCli, type Finished, type Running } from '../support/process.ts';

const cli = useCli();

let folder: string;
beforeAll(() => {
  folder = makeDataFolder();
});
afterAll(() => removeFolder(folder));

const note = (): string => join(folder, '.sluice/dev.json');
const dataDir = (): string => join(folder, '.sluice/postgres');
const run = (...args: string[]): Promise<Finished> => cli.run(args, { cwd: folder });

let dev: Running;
const startDev = async (...args: string[]): Promise<Running> => {
  const started = cli.start(['dev', ...args], { cwd: folder, env: { PORT: '0' } });
  await started.says(/http:\/\/127\.0\.0\.1:[1-9]\d*/);
  return started;
};
const end = async (running: Running, signal: NodeJS.Signals): Promise<Finished> => {
  running.kill(signal);
  return running.finished;
};

beforeEach(async () => {
  dev = await startDev();
  return async () => {
    await end(dev, 'SIGTERM');
  };
});

test('starts, says where and what to try, is found by its folder, and ends by SIGTERM', async () => {
  const url = dev.stdout().trim();
  await dev.says(new RegExp(`npx sluice append [^]*curl -N '${url}/v1/events\\?stream=`), 'stderr');
  expect((await fetch(`${url}/readyz`)).status).toBe(200);
  const [, command = ''] = /export DATABASE_URL=\$\((.*)\)/.exec(dev.stderr()) ?? [];
  const { stdout: address } = await promisify(exec)(command, { cwd: folder });
  expect(JSON.parse(readFileSync(note(), 'utf8'))).toMatchObject({ connectionString: address.trim() });
  expect(statSync(note()).mode & 0o777).toBe(0o600);
  expect(readFileSync(join(folder, '.sluice/.gitignore'), 'utf8')).toBe('*\n');
  expect(JSON.parse(readFileSync(note(), 'utf8'))).toMatchObject({ pid: dev.pid, url });

  expect(await run('append', 'hello', '{"n":1}')).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^offset 1 /),
  });
  expect(await run('tail', 'hello')).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/\t{"n":1}\n$/),
  });
  expect(await run('doctor')).toMatchObject({ code: 0, stdout: expect.not.stringMatching(/^(?:bad|warn)/m) });

  const postgres = serverPid(dataDir());
  expect(await end(dev, 'SIGTERM')).toMatchObject({
    code: 0,
    stderr: expect.stringMatching(/\nstopping\n$/),
  });
  expect(existsSync(note())).toBe(false);
  expect(existsSync(join(dataDir(), 'postmaster.pid'))).toBe(false);
  expect(() => process.kill(postgres, 0)).toThrow();
  expect(await run('streams')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/no database is named/),
  });
});

test('killed, it leaves a note that misleads nobody, and starts again with its data', async () => {
  await run('append', 'kept', '1');
  await end(dev, 'SIGKILL');
  expect(existsSync(note())).toBe(true);
  expect(await run('streams')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/no database is named/),
  });
  dev = await startDev();
  expect(await run('tail', 'kept')).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^1\t\S+\t-\t1\n$/),
  });
});

test('a second one in the same folder shares the database and leaves the note alone', async () => {
  const second = await startDev('--json');
  const said = JSON.parse(second.stdout()) as object;
  expect(said).toMatchObject({
    pid: second.pid,
    database: `\`sluice dev\` (pid ${dev.pid})`,
    schema: 'sluice',
  });
  expect(await end(second, 'SIGINT')).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(readFileSync(note(), 'utf8'))).toMatchObject({ pid: dev.pid });
  expect((await run('streams')).code).toBe(0);
});

test('a note that others can read is not trusted', async () => {
  chmodSync(note(), 0o644);
  const { code, stderr } = await run('streams');
  expect(code).toBe(1);
  expect(stderr).toMatch(/^error: \S+dev\.json .*can be read by others.*--database-url/);
});

test('a note that is no note is overlooked', async () => {
  for (const text of ['', '{}', 'null', '{"pid":0,"url":"x"}']) {
    writeFileSync(note(), text);
    expect(await run('streams')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/no database is named/),
    });
  }
});

test('one that starts beside another says who has the data', async () => {
  rmSync(note());
  const { code, stderr } = await cli.start(['dev'], { cwd: folder, env: { PORT: '0' } }).finished;
  expect(code).toBe(1);
  expect(stderr).toMatch(
    new RegExp(
      `^error: A PostgreSQL server already runs in [^\\n]+ started by process ${dev.pid}[^\\n]+\\n$`,
    ),
  );
});

describe('when its server dies', () => {
  test('it says so and ends with 1', async () => {
    process.kill(serverPid(dataDir()), 'SIGKILL');
    const { code, stderr } = await dev.finished;
    expect(code).toBe(1);
    expect(stderr.trimEnd().split('\n').at(-1)).toMatch(/^error: PostgreSQL in \S+ ended by itself/);
  });
});
