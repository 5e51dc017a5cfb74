// Owns bringing dist up to date before the tests of what a user receives, once per run: `npm test` has done so already,
// but a plain `vitest run` has not, and two test files must not build at the same time.
import { spawnSync } from 'node:child_process';
import { root } from './tidy/files.ts';

export const setup = (): void => {
  const { status } = spawnSync(process.execPath, ['scripts/build.mjs', '--if-stale'], {
    cwd: root,
    stdio: ['ignore', 2, 2],
  });
  if (status !== 0) throw new Error('the build failed: see above');
};
