// Guards `sluice serve` and `sluice dev` as HTTP servers: who is let in, what is refused to other sites and other
// names, where they listen, and how they end: clients are told, requests under way get a moment, the process exits.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { request, type IncomingMessage } from 'node:http';
import { connect as dial, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { killListener } from '../support/faults.ts';
import { useCli, type Running } from '../support/process.ts';
import { decodePart, newSecret } from '../support/tokens.ts';
import { root } from '../support/tidy/files.ts';

const db = useDatabase({ allowOpenSessions: true });
const empty = useDatabase({ migrated: false });
const cli = useCli();

const secret = newSecret();
const shop = 'https://shop.example';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sluice-cli-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const start = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Running =>
  cli.start(args, { cwd: folder, env: { DATABASE_URL: db.connectionString, PORT: '0', ...env } });
const listening = async (running: Running): Promise<URL> =>
  new URL((await running.says(/http:\/\/[\w.:[\]]+:[1-9]\d*/))[0]);
const stopped = async (running: Running, signal: NodeJS.Signals = 'SIGTERM'): Promise<unknown> => {
  running.kill(signal);
  return running.finished;
};

interface Answer {
  readonly status: number | undefined;
  readonly type: string | undefined;
  readonly body: string;
}

/** Unlike fetch, sends the headers it is given, Host among them. */
const ask = async (
  url: URL,
  path: string,
  headers: Record<string, string> = {},
  method = 'GET',
): Promise<Answer> => {
  const asked = request(new URL(path, url), { headers, method }).end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  let body = '';
  for await (const chunk of response) body += String(chunk);
  return { status: response.statusCode, type: response.headers['content-type'], body };
};

interface Following {
  /** All so far. */
  readonly said: () => string;
  readonly ended: Promise<unknown>;
  readonly leave: () => void;
}

/** An open event stream. */
const follow = async (url: URL, stream: string, headers: Record<string, string> = {}): Promise<Following> => {
  const asked = request(new URL(`/v1/events?stream=${stream}&after=start`, url), { headers }).end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  expect(response.statusCode).toBe(200);
  let said = '';
  response.on('data', (chunk) => (said += String(chunk)));
  const ended = once(response, 'end');
  ended.catch(() => {}); // left
  return { said: () => said, ended, leave: () => void response.destroy() };
};

describe('serve', () => {
  const refused = async (env: Readonly<Record<string, string>>): Promise<string> => {
    const { code, stdout, stderr } = await start(['serve'], env).finished;
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^error: [^\n]+\n$/);
    return stderr;
  };

  test('does not start open by accident', async () => {
    expect(await refused({})).toMatch(/SLUICE_SECRET.*--allow-anonymous/);
    expect(await refused({ SLUICE_SECRET: '' })).toMatch(/SLUICE_SECRET.*--allow-anonymous/);
    const weak = await refused({ SLUICE_SECRET: `${secret},hush` });
    expect(weak).toMatch(/SLUICE_SECRET: secret 2 has 4 bytes; at least 32 are needed/);
    expect(weak).not.toContain('hush');
  });

  test('with --allow-anonymous anyone reads, by any name, and is told when it ends', async () => {
    const serve = start(['serve', '--allow-anonymous']);
    const url = await listening(serve);
    expect(url.hostname).toBe('127.0.0.1');
    expect(serve.stdout()).toBe(`${url.origin}\n`);
    await serve.says(/^warning: anyone who can reach this server may read every stream/, 'stderr');
    await cli.run(['append', 'served', '{"n":1}'], { env: { DATABASE_URL: db.connectionString } });
    const elsewhere = { host: 'streams.example', origin: 'https://shop.example' };
    expect(await ask(url, '/readyz', elsewhere)).toMatchObject({ status: 200 });
    const client = await follow(url, 'served');
    await until(() => client.said().includes('"data":{"n":1}'));
    const end = stopped(serve);
    await client.ended;
    expect(client.said()).toMatch(/\nevent: sluice:shutdown\ndata: {"retryMs":\d+}\n\n$/);
    expect(await end).toMatchObject({ code: 0, stderr: expect.stringMatching(/\nstopping\n$/) });
  });

  const printed = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await start(['token', ...args], { SLUICE_SECRET: secret }).finished;
    expect([code, stderr]).toEqual([0, '']);
    return stdout.trim();
  };

  test('with SLUICE_SECRET, who shows a token reads what it covers', async () => {
    const serve = start(['serve', '--revocations', 'revoked'], { SLUICE_SECRET: secret });
    const url = await listening(serve);
    const env = { DATABASE_URL: db.connectionString };
    await cli.run(['append', 'orders', '{"n":1}'], { env });
    const token = await printed(
      '--stream',
      'orders',
      '--stream',
      'users/*',
      '--expires',
      '1h',
      '--principal',
      'ann',
    );
    const ticket = await printed('--stream', 'orders', '--ticket');
    const events = '/v1/events?after=start&stream=';
    expect(await ask(url, `${events}orders`)).toMatchObject({
      status: 401,
      type: 'application/problem+json',
    });
    const headers = { authorization: `Bearer ${token}` };
    expect(await ask(url, `${events}hidden`, headers)).toMatchObject({ status: 404 });
    expect(await ask(url, `${events}users/missing`, headers)).toMatchObject({ status: 404 });
    for (const [query, shown] of [
      ['orders', headers],
      ['orders', { cookie: `sluice_token=${token}` }],
      [`orders&ticket=${ticket}`, {}],
    ] as const) {
      const client = await follow(url, query, shown);
      await until(() => client.said().includes('"data":{"n":1}'));
      client.leave();
    }
    const client = await follow(url, 'orders', headers);
    await cli.run(['publish', 'revoked', '{"principal":"ann"}'], { env });
    await client.ended;
    expect(await ask(url, `${events}orders`, headers)).toMatchObject({ status: 401 });
    expect(serve.stderr()).toBe('');
    expect(await stopped(serve)).toMatchObject({ code: 0 });
  });

  test('while a secret is replaced, tokens of both are good', async () => {
    const token = await printed('--stream', '*');
    const fresh = newSecret();
    const url = await listening(start(['serve'], { SLUICE_SECRET: `${fresh}, ${secret}` }));
    await cli.run(['create', 'any'], { env: { DATABASE_URL: db.connectionString } });
    const client = await follow(url, 'any', { authorization: `Bearer ${token}` });
    client.leave();
  });

  test('a token made with --presence shows who is there, and is seen there', async () => {
    const url = await listening(start(['serve'], { SLUICE_SECRET: secret }));
    await cli.run(['create', 'room'], { env: { DATABASE_URL: db.connectionString } });
    const room = ['--stream', 'room', '--principal', 'ann'];
    const bearer = async (...args: string[]) => ({
      authorization: `Bearer ${await printed(...room, ...args)}`,
    });
    const ann = await follow(url, 'room&presence=', await bearer('--presence'));
    await until(() => ann.said().includes('{"id":"ann","state":null}'));
    const bob = await follow(url, 'room&presence=', await bearer('--presence', 'bob'));
    await until(() => [ann, bob].every(({ said }) => said().includes('{"id":"bob","state":null}')));
    for (const each of [ann, bob]) each.leave();
  });

  test('--cors-origin lets pages of that origin ask', async () => {
    const serve = start(['serve', '--cors-origin', shop, '--cors-origin', 'http://localhost:3000'], {
      SLUICE_SECRET: secret,
    });
    const url = await listening(serve);
    for (const [origin, status] of [
      [shop, 204],
      ['http://localhost:3000', 204],
      ['https://evil.example', 403],
    ] as const) {
      const preflight = { origin, 'access-control-request-method': 'GET' };
      expect(await ask(url, '/v1/events', preflight, 'OPTIONS')).toMatchObject({ status });
    }
  });

  test('--stats-history keeps what it served', async () => {
    const serve = start(['serve', '--allow-anonymous', '--stats-history', '1d']);
    const url = await listening(serve);
    await cli.run(['append', 'counted', '{"n":1}'], { env: { DATABASE_URL: db.connectionString } });
    const client = await follow(url, 'counted');
    await until(() => client.said().includes('"data":{"n":1}'));
    const [end] = await Promise.all([stopped(serve), client.ended]);
    expect(end).toMatchObject({ code: 0 });
    const { rows } = await db.query(
      `select events::int, expires_at - at = interval '1 day' as kept, instance like '%:' || $1 as named
       from sluice.stats_history where stream = 'counted'`,
      [String(serve.pid)],
    );
    expect(rows).toEqual([{ events: 1, kept: true, named: true }]);
  });

  test.each([
    [['--cors-origin', `${shop}/`], /^error: cors\.origins has .*write https:\/\/shop\.example\n$/],
    [['--trust-proxy', 'all'], /^error: --trust-proxy is "all"; give a whole number\n$/],
    [['--trust-proxy', '101'], /^error: trustProxy is 101; give the number of proxies, from 0 to 100\n$/],
    [['--stats-history', 'long'], /^error: --stats-history is "long"/],
    [['--revocations', ''], /^error: revocations: a stream name must not be empty\n$/],
  ])('%j is wrong usage', async (args, says) => {
    const { code, stderr } = await start(['serve', ...args], { SLUICE_SECRET: secret }).finished;
    expect([code, stderr]).toEqual([2, expect.stringMatching(says)]);
  });

  test('with --json, says where in JSON', async () => {
    const serve = start(['serve', '--allow-anonymous', '--json']);
    const url = await listening(serve);
    expect(JSON.parse(serve.stdout())).toEqual({ url: url.origin, pid: serve.pid, schema: 'sluice' });
    expect(await stopped(serve, 'SIGINT')).toMatchObject({ code: 0 });
  });

  test('applies no migrations', async () => {
    const env = { DATABASE_URL: empty.connectionString };
    const { code, stderr } = await start(['serve', '--allow-anonymous'], env).finished;
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^error: schema "sluice" is not installed in this database; run `npx sluice migrate`\n$/m,
    );
  });
});

describe('token', () => {
  const made = async (args: readonly string[], env: Readonly<Record<string, string>>): Promise<unknown[]> => {
    const { code, stdout, stderr } = await start(['token', ...args], env).finished;
    return [code, stdout, stderr];
  };

  test('needs no database; with --json also says the id', async () => {
    const { code, stdout } = await cli.run(['token', '--stream', 'orders', '--json'], {
      env: { SLUICE_SECRET: secret },
    });
    const { token, id } = JSON.parse(stdout) as { token: string; id: string };
    expect(code).toBe(0);
    const claims = decodePart(token, 1);
    expect(claims).toMatchObject({ jti: id, streams: ['orders'], actions: ['read'] });
    expect(Number(claims['exp']) - Number(claims['iat'])).toBeCloseTo(3600);
  });

  test('--action may be repeated', async () => {
    const [, stdout] = await made(['--stream', '*', '--action', 'read', '--action', 'append'], {
      SLUICE_SECRET: secret,
    });
    expect(decodePart(String(stdout).trim(), 1)['actions']).toEqual(['read', 'append']);
  });

  test.each([
    ['no secret', ['--stream', 'a'], {}, /SLUICE_SECRET is not set/],
    ['a weak one', ['--stream', 'a'], { SLUICE_SECRET: 'hush' }, /SLUICE_SECRET: secret has 4 bytes/],
    ['no stream', [], { SLUICE_SECRET: secret }, /--stream/],
    ['no name', ['--stream', ''], { SLUICE_SECRET: secret }, /must not be empty/],
    ['no duration', ['--stream', 'a', '--expires', 'soon'], { SLUICE_SECRET: secret }, /--expires is "soon"/],
    ['too long', ['--stream', 'a', '--expires', '31d'], { SLUICE_SECRET: secret }, /from 1 to 2592000000/],
    [
      'a long ticket',
      ['--stream', 'a', '--ticket', '--expires', '1h'],
      { SLUICE_SECRET: secret },
      /from 1 to 600000/,
    ],
    ['nobody', ['--stream', 'a', '--presence'], { SLUICE_SECRET: secret }, /give a principal/],
    [
      'an action',
      ['--stream', 'a', '--action', 'write'],
      { SLUICE_SECRET: secret },
      /read, append and manage/,
    ],
  ])('%s: wrong usage', async (...[, args, env, says]) => {
    const [code, stdout, stderr] = await made(args, env);
    expect([code, stdout, stderr]).toEqual([2, '', expect.stringMatching(says)]);
    expect(stderr).toMatch(/^error: [^\n]+\n$/);
  });
});

describe('where it listens', () => {
  test('a port that is taken is named, with the way to another', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    for (const args of [['dev'], ['serve', '--allow-anonymous']]) {
      const { code, stdout, stderr } = await start(args, { PORT: String(port) }).finished;
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
      expect(stderr).toMatch(
        new RegExp(`^error: port ${port} on 127\\.0\\.0\\.1 is in use .*PORT=${port + 1}.*PORT=0`),
      );
    }
    other.close();
  });

  test.each(['http', '-1', '65536', '4080x'])('PORT=%s is no port', async (port) => {
    const { code, stderr } = await start(['dev'], { PORT: port }).finished;
    expect([code, stderr]).toEqual([2, `error: PORT is "${port}"; give a number from 0 to 65535\n`]);
  });

  test.each(['0.0.0.0', '::', 'example.com', '10.0.0.1'])(
    'dev stays on loopback, and refuses HOST=%s',
    async (host) => {
      const { code, stderr } = await start(['dev'], { HOST: host }).finished;
      expect(code).toBe(2);
      expect(stderr).toMatch(/^error: HOST is .*stays on loopback.*sluice serve/);
    },
  );

  test('dev listens on another loopback address if asked to', async () => {
    const dev = start(['dev'], { HOST: '127.0.0.2' });
    const url = await listening(dev);
    expect(url.hostname).toBe('127.0.0.2');
    expect(await ask(url, '/readyz')).toMatchObject({ status: 200 });
    await stopped(dev);
  });
});

describe('dev on a database of yours', () => {
  let dev: Running;
  let url: URL;
  beforeAll(async () => {
    dev = start(['dev', '--demo'], { DATABASE_URL: empty.connectionString });
    url = await listening(dev);
    return () => stopped(dev);
  });

  test('applies migrations, serves the shop and the streams', async () => {
    expect(await ask(url, '/')).toMatchObject({ status: 200, type: 'text/html; charset=utf-8' });
    const placed = await fetch(new URL('/demo/orders', url), {
      method: 'POST',
      headers: { 'content-type': 'application/json', origin: url.origin },
      body: '{"item":"Fountain pen","quantity":2}',
    });
    expect(placed.status).toBe(201);
    const client = await follow(url, 'demo-orders');
    await until(() => client.said().includes('"item":"Fountain pen"'));
    expect(await ask(url, '/nowhere')).toMatchObject({ status: 404, type: 'application/problem+json' });
    expect(dev.stderr()).toMatch(/^Sluice runs on DATABASE_URL\.\n/);
  });

  test.each([
    ['another name', { host: 'evil.example' }, /Host header is "evil\.example"/],
    ['its name at another port', { host: '127.0.0.1:1' }, /Host header is "127\.0\.0\.1:1"/],
    ['another site', { origin: 'https://evil.example' }, /Origin header is "https:\/\/evil\.example"/],
    ['a sandboxed page', { origin: 'null' }, /Origin header is "null"/],
  ])('refuses %s', async (_, headers, says) => {
    for (const path of ['/', '/demo/state', '/v1/events?stream=demo-orders', '/readyz']) {
      const { status, type, body } = await ask(url, path, headers);
      expect([status, type]).toEqual([403, 'application/problem+json']);
      const { detail } = JSON.parse(body) as { detail: string };
      expect(detail).toMatch(says);
      expect(detail).toContain(url.origin);
    }
    expect(await ask(url, '/demo/rollback', headers, 'POST')).toMatchObject({
      status: 403,
    });
  });

  test('answers to localhost by name', async () => {
    const host = `LOCALHOST:${url.port}`;
    expect(await ask(url, '/readyz', { host, origin: `http://${host}` })).toMatchObject({ status: 200 });
  });
});

describe('how dev ends', () => {
  /** A request whose body never comes. */
  const hang = async (url: URL): Promise<void> => {
    const socket = dial(Number(url.port), url.hostname);
    socket.on('error', () => {});
    const head = `POST /demo/orders HTTP/1.1\r\nhost: ${url.host}\r\ncontent-type: application/json\r\n`;
    socket.write(`${head}content-length: 9\r\nexpect: 100-continue\r\n\r\n`);
    await once(socket, 'data');
  };

  test('a request that hangs does not keep it', async () => {
    const dev = start(['dev', '--demo']);
    await hang(await listening(dev));
    expect(await stopped(dev, 'SIGINT')).toMatchObject({ code: 0 });
    expect(readdirSync(join(folder, '.sluice'))).not.toContain('dev.json');
  });

  test('a second signal ends it at once, and its note with it', async () => {
    const dev = start(['dev', '--demo']);
    await hang(await listening(dev));
    await until(() => {
      dev.kill('SIGINT');
      return dev.child.exitCode !== null;
    });
    expect(await dev.finished).toMatchObject({ code: 1, stderr: expect.stringMatching(/\nstopping\n$/) });
    expect(readdirSync(join(folder, '.sluice'))).not.toContain('dev.json');
  });

  test('npm start ended by SIGTERM ends it, although npm and its shell do not pass that on', async () => {
    const script = `${JSON.stringify(process.execPath)} ${JSON.stringify(`${root}dist/cli.js`)} dev & wait`;
    const env = {
      ...process.env,
      DATABASE_URL: db.connectionString,
      PORT: '0',
      npm_lifecycle_event: 'start',
    };
    const shell = spawn('/bin/sh', ['-c', script], { cwd: folder, env, stdio: ['ignore', 'pipe', 'ignore'] });
    const [said] = (await once(shell.stdout, 'data')) as [Buffer];
    const url = new URL(String(said).trim());
    const ended = once(shell.stdout, 'close');
    shell.kill('SIGTERM');
    await ended;
    await expect(ask(url, '/readyz')).rejects.toThrow('ECONNREFUSED');
    expect(readdirSync(join(folder, '.sluice'))).not.toContain('dev.json');
  });

  test('an outage of the database is told in a line, and survived', async () => {
    const dev = start(['dev']);
    const url = await listening(dev);
    await killListener(db);
    await dev.says(/^warning: the listener connection was lost; reconnecting \([^\n]+\)$/m, 'stderr');
    await until(async () => (await ask(url, '/readyz')).body.includes('"listener":true'));
    expect(await stopped(dev)).toMatchObject({ code: 0 });
  });
});
