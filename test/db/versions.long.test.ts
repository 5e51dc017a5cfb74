// Guards every promise on every PostgreSQL we name: the whole db project, run once on each major version from 14 to 18,
// with binaries from npm. A line per version says what ran. Long, because it is the suite five times.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startTestPostgres } from 'sluice/testing';
import { expect, test } from 'vitest';
import { majors, requireBinaries } from '../support/postgres-versions.ts';
import { root } from '../support/tidy/files.ts';

interface Report {
  readonly numTotalTests: number;
  readonly numPassedTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly message: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly failureMessages: readonly string[];
    }[];
  }[];
}

/** What does not pass down: this run's own server, its being a worker, and its being long. */
const environmentFor = (connectionString: string, binaries: string): NodeJS.ProcessEnv => {
  const others = Object.entries(process.env).filter(
    ([name]) => !/^(?:VITEST|SLUICE_(?:TEST|LONG))/.test(name),
  );
  return {
    ...Object.fromEntries(others),
    SLUICE_TEST_DATABASE_URL: connectionString,
    SLUICE_TEST_BINARIES: binaries, // for tests that start servers of their own
  };
};

const runSuite = async (environment: NodeJS.ProcessEnv, signal: AbortSignal): Promise<Report> => {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-versions-'));
  const file = join(folder, 'report.json');
  try {
    const args = ['run', '--project', 'db', '--reporter=json', `--outputFile=${file}`];
    const suite = spawn(process.execPath, [`${root}node_modules/vitest/vitest.mjs`, ...args], {
      cwd: root,
      env: environment,
      stdio: ['ignore', 'ignore', 'inherit'],
      signal,
    });
    await once(suite, 'exit');
    return JSON.parse(readFileSync(file, 'utf8')) as Report;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};

const failuresIn = ({ testResults }: Report): string[] =>
  testResults.flatMap(({ name, message, assertionResults }) => [
    ...(message === '' ? [] : [`${name}: ${message}`]),
    ...assertionResults
      .filter(({ status }) => status === 'failed')
      .map(({ fullName, failureMessages }) => `${fullName}: ${failureMessages.join('\n')}`),
  ]);

test.for(majors)('PostgreSQL %d: the whole db project', async (major, context) => {
  const binaries = requireBinaries(major, context);
  const started = performance.now();
  await using postgres = await startTestPostgres({ binaries });
  const report = await runSuite(environmentFor(postgres.connectionString, binaries), context.signal);
  const seconds = Math.round((performance.now() - started) / 1000);
  const { numPassedTests: passed, numTotalTests: total } = report;
  process.stdout.write(
    `PostgreSQL ${postgres.version}: ${passed} of ${total} tests passed in ${seconds} s\n`,
  );
  // At once, and not when all versions have run.
  for (const failure of failuresIn(report)) process.stderr.write(`PostgreSQL ${major}: ${failure}\n`);
  expect(failuresIn(report)).toEqual([]);
  expect(passed).toBeGreaterThan(300);
  expect(Number.parseInt(postgres.version, 10)).toBe(major);
});
