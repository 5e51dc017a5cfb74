// Owns how tests run: which files form which project, what each project needs beforehand and how long it may wait.
// `npm test` runs every project below but `long`, which exists only under SLUICE_LONG=1 (`npm run test:long`).
// Time-outs are deadlines for a stuck machine, never part of an assertion. Unhandled rejections fail the run (the default).
import { availableParallelism } from 'node:os';
import { defineConfig, type TestProjectInlineConfiguration } from 'vitest/config';

/** The `source` condition makes `sluice/…` mean `src/…`, so tests import the package by its name and need no build. */
const conditions = ['source', 'node', 'development|production'];

interface Project {
  readonly name: string;
  readonly include: readonly string[];
  readonly setup?: readonly string[];
  readonly timeoutMs: number;
  /**
   * Whether its files may follow each other in one process, which loads the source once: a good part of what they cost.
   * Not where files leave something running behind them. Default false.
   */
  readonly shared?: boolean;
}

const database = 'test/support/global-setup.ts';
const chromium = 'test/support/chromium-setup.ts';
const pgbouncer = 'test/support/pgbouncer-setup.ts';
// For tests whose child processes import the built package.
const build = 'test/support/build-setup.ts';

const projects: readonly Project[] = [
  { name: 'unit', include: ['unit/**/*.test.ts'], timeoutMs: 60_000, shared: true },
  {
    name: 'db',
    include: ['db/**/*.test.ts', 'chaos/**/*.test.ts'],
    setup: [build, database, pgbouncer],
    timeoutMs: 120_000,
  },
  {
    name: 'http',
    include: ['http/**/*.test.ts'],
    setup: [build, database],
    timeoutMs: 120_000,
    shared: true,
  },
  {
    name: 'browser',
    include: ['browser/**/*.test.ts'],
    setup: [build, database, chromium],
    timeoutMs: 180_000,
  },
  // What a user receives: the tarball, and the code in the documents, run against the built package.
  {
    name: 'package',
    include: ['pack/**/*.test.ts', 'docs/**/*.test.ts'],
    setup: [build, database],
    timeoutMs: 300_000,
  },
];
const long: Project = {
  name: 'long',
  include: ['**/*.long.test.ts'],
  setup: [build, database],
  timeoutMs: 1_200_000,
};

const configure = ({
  name,
  include,
  setup = [],
  timeoutMs,
  shared = false,
}: Project): TestProjectInlineConfiguration => ({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  // Where vitest loads the global set-up files.
  environments: { __vitest__: { resolve: { conditions } } },
  test: {
    name,
    include: include.map((pattern) => `test/${pattern}`),
    exclude: name === long.name ? [] : ['**/*.long.test.ts'],
    globalSetup: [...setup],
    environment: 'node',
    pool: 'forks',
    isolate: !shared,
    testTimeout: timeoutMs,
    hookTimeout: Math.max(timeoutMs, 60_000),
  },
});

export default defineConfig({
  test: {
    // Files mostly wait, for Postgres, browsers and child processes, so even two cores carry three; more than four would only
    // crowd one server.
    maxWorkers: Math.max(3, Math.min(4, availableParallelism())),
    projects: [...projects, ...(process.env['SLUICE_LONG'] ? [long] : [])].map(configure),
  },
});
