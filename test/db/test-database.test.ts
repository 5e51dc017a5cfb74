// Guards the databases for tests that users get from `sluice/testing`: separate, removed with their connections, on one
// server per process that holds nobody up.
import { Client } from 'pg';
import { createTestDatabase } from 'sluice/testing';
import { expect, test, vi } from 'vitest';
import { until } from '../support/diagnostics.ts';
import { startChild } from '../support/embedded-project.ts';
import { query } from '../support/embedded-server.ts';
import { createProxy } from '../support/proxy.ts';

test('createTestDatabase gives databases of their own, and drops them with their connections', async () => {
  const [one, two] = await Promise.all([createTestDatabase(), createTestDatabase()]);
  await query(one.connectionString, 'create table only_here ()');
  const found = `select to_regclass('only_here')::text as found`;
  expect(await query(two.connectionString, found)).toEqual([{ found: null }]);

  const copy = await createTestDatabase({ template: new URL(one.connectionString).pathname.slice(1) });
  expect(await query(copy.connectionString, found)).toEqual([{ found: 'only_here' }]);
  await expect(createTestDatabase({ template: 'no "such" database' })).rejects.toThrow(/no "such" database/);

  const open = new Client({ connectionString: one.connectionString });
  open.on('error', () => {});
  const lost = new Promise<void>((resolve) => open.once('end', resolve));
  await open.connect();
  await one.drop();
  await lost;
  await one.drop();
  await expect(query(one.connectionString, 'select 1')).rejects.toThrow(/does not exist/);
  await Promise.all([two.drop(), copy[Symbol.asyncDispose]()]);
});

test('a server that is lost halfway is an error of the call, and not the end of the process', async () => {
  await using template = await createTestDatabase();
  const url = new URL(template.connectionString);
  const name = url.pathname.slice(1);
  const inUse = new Client({ connectionString: template.connectionString }); // which the copy waits for
  await inUse.connect();
  using proxy = await createProxy({ targetPort: Number(url.port) });
  url.pathname = '/postgres';
  const direct = String(url);
  url.port = String(proxy.port);
  vi.stubEnv('SLUICE_TEST_DATABASE_URL', String(url));
  const creating = createTestDatabase({ template: name }).finally(() => vi.unstubAllEnvs());
  creating.catch(() => {});
  const copying = `select 1 from pg_stat_activity where pid <> pg_backend_pid() and query like 'create database%${name}%'`;
  await until(async () => (await query(direct, copying)).length === 1);
  proxy.cut();
  await expect(creating).rejects.toThrow();
  await inUse.end();
});

test('createTestDatabase starts one server for the process, which does not keep it alive and goes with it', async () => {
  const child = startChild({}, { mode: 'testing', env: { SLUICE_TEST_DATABASE_URL: '' } });
  const one = (await child.next())?.connectionString;
  const two = (await child.next())?.connectionString;
  expect(new URL(one!).port).toBe(new URL(two!).port);
  expect(await child.exited).toBe(0);
  await until(async () =>
    query(one!, 'select 1').then(
      () => false,
      () => true,
    ),
  );
});
