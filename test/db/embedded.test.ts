// Guards the life of an embedded server: it is private, two starts do not harm each other, it ends however its owner
// ends, and a failure says why and leaves nothing behind. Real servers throughout, other processes where it takes them.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { basename, join } from 'node:path';
import type { RunningPostgres } from 'sluice/embedded';
import { beforeAll, describe, expect, test } from 'vitest';
import { nextMessage, until } from '../support/diagnostics.ts';
import { copyBinaries, startChild, started } from '../support/embedded-project.ts';
import {
  failure,
  fast,
  guardPid,
  guardPids,
  isAlive,
  makeDataFolder,
  makeProgramFolder,
  pathsIn,
  query,
  removeFolder,
  serverPid,
  start,
} from '../support/embedded-server.ts';

let folder: string;
const newPath = pathsIn(() => folder);

beforeAll(() => {
  folder = makeDataFolder();
  // Temporary clusters as well, here and in child processes.
  const before = process.env['TMPDIR'];
  process.env['TMPDIR'] = folder;
  return () => {
    if (before === undefined) delete process.env['TMPDIR'];
    else process.env['TMPDIR'] = before;
    // Whatever happened above: nothing temporary is left.
    const left = readdirSync(folder).filter((name) => /sluice|\.init/.test(name));
    removeFolder(folder);
    expect(left).toEqual([]);
  };
});

describe('a temporary server', () => {
  let postgres: RunningPostgres;
  beforeAll(async () => {
    postgres = await start();
    return () => postgres.stop();
  });

  test('is PostgreSQL itself, on the loopback only and without sockets in the file system', async () => {
    const [row] = await query(
      postgres.connectionString,
      `select current_setting('listen_addresses') as tcp, current_setting('unix_socket_directories') as unix,
              current_setting('server_version') as version, current_setting('fsync') as fsync`,
    );
    expect(row).toEqual({ tcp: '127.0.0.1', unix: '', version: postgres.version, fsync: 'off' });
  });

  test('refuses a wrong password and none', async () => {
    for (const password of ['wrong', '']) {
      const url = new URL(postgres.connectionString);
      url.password = password;
      await expect(query(url.href, 'select 1')).rejects.toThrow(/password/);
    }
    const [row] = await query(
      postgres.connectionString,
      `select rolpassword as kept from pg_authid where rolname = 'postgres'`,
    );
    expect(row?.['kept']).toMatch(/^SCRAM-SHA-256\$/);
  });

  test('has its password in no file, argument or environment', () => {
    const { password } = new URL(postgres.connectionString);
    for (const name of readdirSync(postgres.dataDir)) {
      const path = join(postgres.dataDir, name);
      if (statSync(path).isFile()) expect(readFileSync(path, 'latin1')).not.toContain(password);
    }
    const pids = [serverPid(postgres.dataDir), guardPid(postgres.dataDir)].map(String);
    // `e` shows environments where the system allows it.
    expect(execFileSync('ps', ['eww', '-p', pids.join(',')], { encoding: 'utf8' })).not.toContain(password);
  });

  test.runIf(process.platform === 'linux')('does not get our environment, which holds secrets', () => {
    const environment = readFileSync(`/proc/${serverPid(postgres.dataDir)}/environ`, 'latin1');
    expect(environment.split('\0').map((each) => each.split('=')[0])).not.toContain('HOME');
  });

  test('shares its port with nobody: a given port that is taken is named', async () => {
    expect(await failure(start({ port: postgres.port }))).toContain(
      `Port ${postgres.port} on 127.0.0.1 is in use`,
    );
    await query(postgres.connectionString, 'select 1');
  });
});

test('stop ends the server and removes the temporary folder, and may be called again', async () => {
  const postgres = await start();
  const pid = serverPid(postgres.dataDir);
  await Promise.all([postgres.stop(), postgres.stop()]);
  expect(isAlive(pid)).toBe(false);
  expect(existsSync(postgres.dataDir)).toBe(false);
  await postgres[Symbol.asyncDispose]();
});

test('stop also ends a server whose guard was killed', async () => {
  const postgres = await start();
  const pid = serverPid(postgres.dataDir);
  const reported = nextMessage<{ where: string }>(
    'sluice:background.failed',
    ({ where }) => where === 'embedded',
  );
  process.kill(guardPid(postgres.dataDir), 'SIGKILL');
  await reported;
  await postgres.stop();
  expect(isAlive(pid)).toBe(false);
  expect(existsSync(postgres.dataDir)).toBe(false);
});

test('a server that ends by itself is reported, with the end of its log', async () => {
  const told: string[] = [];
  const ignore = (): void => {};
  const error = (details: object): void => void told.push(String((details as { err: Error }).err));
  const postgres = await start({ logger: { debug: ignore, info: ignore, warn: ignore, error } });
  const reported = nextMessage('sluice:background.failed');
  process.kill(serverPid(postgres.dataDir), 'SIGQUIT');
  await reported;
  expect(told).toEqual([expect.stringContaining('ended by itself')]);
  await postgres.stop();
});

describe('a lasting server', () => {
  test('keeps data, password and port, and moves away from a port that is taken', async () => {
    const dataDir = newPath();
    const first = await start({ dataDir });
    await query(first.connectionString, 'create table kept as select 1 as answer');
    await first.stop();
    const second = await start({ dataDir });
    expect(second.connectionString).toBe(first.connectionString);
    expect(await query(second.connectionString, 'table kept')).toEqual([{ answer: 1 }]);
    await second.stop();

    const squatter = createServer().listen(first.port, '127.0.0.1');
    await once(squatter, 'listening');
    const third = await start({ dataDir });
    expect(third.port).not.toBe(first.port);
    expect(await query(third.connectionString, 'table kept')).toEqual([{ answer: 1 }]);
    await third.stop();
    squatter.close();
  });

  test('two first starts at once: one wins, the other hears that a server runs there, nothing breaks', async () => {
    const dataDir = newPath();
    const outcomes = await Promise.allSettled([start({ dataDir }), start({ dataDir })]);
    const won = outcomes.filter((outcome) => outcome.status === 'fulfilled');
    const lost = outcomes.filter((outcome) => outcome.status === 'rejected');
    expect(won).toHaveLength(1);
    const postgres = won[0]!.value;
    expect(String(lost[0]?.reason)).toContain(
      `already runs in ${dataDir} (pid ${serverPid(dataDir)}, started by process`,
    );
    await query(postgres.connectionString, 'create table kept ()');
    expect(await failure(start({ dataDir }))).toContain('already runs');
    await query(postgres.connectionString, 'table kept');
    await postgres.stop();
  });

  test('starts in spite of the postmaster.pid of a server that is gone', async () => {
    const dataDir = newPath();
    await (await start({ dataDir })).stop();
    // By now the number belongs to another program of the same user: PostgreSQL by itself would refuse.
    const { uid, gid } = statSync(dataDir);
    const asOwner = process.getuid?.() === 0 ? { uid, gid, cwd: '/' } : {};
    const other = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'], ...asOwner });
    await once(other, 'spawn');
    for (const pid of [other.pid!, 4_000_000]) {
      writeFileSync(
        join(dataDir, 'postmaster.pid'),
        `${pid}\n${dataDir}\n1\n1\n\n127.0.0.1\n 1 1\nready   \n`,
      );
      await (await start({ dataDir })).stop();
    }
    expect(other.exitCode).toBeNull();
    other.stdin?.end();
    await once(other, 'exit');
  });

  test('does not touch a folder that holds something else, or a cluster whose password is unknown', async () => {
    const dataDir = newPath();
    mkdirSync(dataDir);
    writeFileSync(join(dataDir, 'diary.txt'), 'dear diary');
    expect(await failure(start({ dataDir }))).toContain('is not empty and holds no PostgreSQL cluster');
    expect(readdirSync(dataDir)).toEqual(['diary.txt']);

    const foreign = newPath();
    await (await start({ dataDir: foreign })).stop();
    rmSync(join(foreign, 'sluice.json'));
    expect(await failure(start({ dataDir: foreign }))).toContain('password of the cluster');
  });
});

describe('when the process that started it', () => {
  test('is killed, a lasting server ends, and the next start is clean at once', async () => {
    const dataDir = newPath();
    const child = startChild({ ...fast, dataDir });
    const { connectionString } = await started(child);
    await query(connectionString, 'create table kept as select 1 as answer');
    const pid = serverPid(dataDir);
    child.process.kill('SIGKILL');
    await child.exited;
    // Not a moment of waiting for the old server here.
    const postgres = await start({ dataDir });
    expect(isAlive(pid)).toBe(false);
    expect(await query(postgres.connectionString, 'table kept')).toEqual([{ answer: 1 }]);
    await postgres.stop();
  });

  test('is killed, a temporary server ends and its folder is removed', async () => {
    const child = startChild(fast);
    const { dataDir } = await started(child);
    const pid = serverPid(dataDir);
    child.process.kill('SIGKILL');
    await until(() => !isAlive(pid) && !existsSync(dataDir));
  });

  test('is killed while it creates the cluster, initdb ends and the next start is clean', async () => {
    const dataDir = newPath();
    const child = startChild({ ...fast, dataDir });
    const halfMade = (): string[] =>
      readdirSync(folder).filter((name) => name.startsWith(`${basename(dataDir)}.init`));
    // Once initdb writes, its guard is there; a folder left before that is swept by the next start.
    await until(() => halfMade().some((name) => readdirSync(join(folder, name)).length > 0));
    child.process.kill('SIGKILL');
    await until(() => halfMade().length === 0);
    await (await start({ dataDir })).stop();
  });

  /** A server whose owner and whose guard, with all its processes, are dead. */
  const orphan = async (options: object): Promise<{ pid: number; dataDir: string }> => {
    const child = startChild(options);
    const { dataDir } = await started(child);
    const pid = serverPid(dataDir);
    for (const guard of guardPids(dataDir)) process.kill(guard, 'SIGKILL');
    child.process.kill('SIGKILL');
    await child.exited;
    expect(isAlive(pid)).toBe(true);
    return { pid, dataDir };
  };

  test('is killed with the guard, the next start on the folder ends the server first', async () => {
    const { pid, dataDir } = await orphan({ ...fast, dataDir: newPath() });
    await (await start({ dataDir })).stop();
    expect(isAlive(pid)).toBe(false);
  });

  test('is killed with the guard, the next temporary starts end the server and remove the folder', async () => {
    const { pid, dataDir } = await orphan(fast);
    await (await start()).stop();
    await until(() => !isAlive(pid));
    await (await start()).stop();
    expect(existsSync(dataDir)).toBe(false);
  });

  test('gets a Ctrl-C, the server lives until its clean shutdown has used it', async () => {
    const child = startChild(fast);
    const { dataDir } = await started(child);
    const pid = serverPid(dataDir);
    // A terminal signals the whole group.
    process.kill(-child.process.pid!, 'SIGINT');
    expect(await child.next()).toEqual({ answer: 'still here' });
    expect(await child.exited).toBe(0);
    expect(isAlive(pid)).toBe(false);
    expect(existsSync(dataDir)).toBe(false);
  });

  test('comes to its end without stopping it, it is not kept alive and the server goes with it', async () => {
    const child = startChild(fast, { mode: 'leave' });
    const { dataDir } = await started(child);
    expect(await child.exited).toBe(0);
    await until(() => !existsSync(dataDir));
  });
});

describe('a failure', () => {
  test('of the server says why, with the end of its log, and leaves nothing behind', async () => {
    const dataDir = newPath();
    const message = await failure(start({ dataDir, settings: { shared_buffers: 'plenty' } }));
    expect(message).toMatch(/ended with exit code 1 .*\n.*shared_buffers.*plenty/);
    expect(message).toContain('DATABASE_URL');
    expect(existsSync(join(dataDir, 'postmaster.pid'))).toBe(false);
  });

  test('of initdb says why, and the next start is clean', async () => {
    const programs = makeProgramFolder();
    const bin = copyBinaries(join(programs, 'copy'));
    writeFileSync(join(bin, 'initdb'), '#!/bin/sh\necho "initdb: no room on the moon" >&2\nexit 1\n');
    const dataDir = newPath();
    const message = await failure(start({ dataDir, binaries: bin }));
    removeFolder(programs);
    expect(message).toMatch(/exit code 1 in .*\n.*no room on the moon/);
    await (await start({ dataDir })).stop();
  });

  test('by an aborted signal leaves no server and no folder', async () => {
    const dataDir = newPath();
    const reason = new Error('changed my mind');
    const controller = new AbortController();
    const attempt = start({ dataDir, signal: controller.signal });
    await until(() =>
      readdirSync(folder).some((name) => name.startsWith(`${dataDir.slice(folder.length + 1)}.init`)),
    );
    controller.abort(reason);
    await expect(attempt).rejects.toBe(reason);
    await expect(start({ signal: controller.signal })).rejects.toBe(reason);
  });

  test('by a wrong argument is a programmer error', async () => {
    await expect(start({ port: 70_000 })).rejects.toThrow(RangeError);
    await expect(start({ settings: { Listen_Addresses: '*' } })).rejects.toThrow(TypeError);
    await expect(start({ settings: { 'a b': '1' } })).rejects.toThrow(TypeError);
  });

  test('on Windows names DATABASE_URL', async () => {
    const { platform } = process;
    Object.defineProperty(process, 'platform', { value: 'win32' });
    try {
      expect(await failure(start())).toContain('set DATABASE_URL');
    } finally {
      Object.defineProperty(process, 'platform', { value: platform });
    }
  });
});

test('a port can be given', async () => {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  await using postgres = await start({ port });
  expect(new URL(postgres.connectionString).port).toBe(String(port));
});
