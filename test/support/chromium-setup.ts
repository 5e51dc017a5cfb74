// Owns finding a Chromium for the browser tests, once per run, and installing Debian's when run as root there.
// Without one the browser tests are skipped, loudly, so that a clone's `npm test` works anywhere; where CI is set a
// missing browser is a failure. Workers learn its place from CHROMIUM_PATH.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

const usual = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/usr/bin/google-chrome-stable',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
];
const remedy = 'install Chromium or Chrome, or set CHROMIUM_PATH to its executable';

const find = (): string | undefined => {
  const given = process.env['CHROMIUM_PATH'];
  if (given !== undefined && !existsSync(given))
    throw new Error(`CHROMIUM_PATH names ${given}, which does not exist`);
  return given ?? usual.find((path) => existsSync(path));
};

const isDebianRoot = (): boolean =>
  process.getuid?.() === 0 &&
  existsSync('/etc/os-release') &&
  /^ID="?debian"?$/m.test(readFileSync('/etc/os-release', 'utf8'));

/** True when every step succeeded. Its output goes to standard error: it takes a while, and may fail for a reason. */
const install = (): boolean =>
  [['update'], ['install', '--yes', '--no-install-recommends', 'chromium']].every(
    (args) =>
      spawnSync('apt-get', args, {
        stdio: ['ignore', 2, 2],
        env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      }).status === 0,
  );

export const setup = (): void => {
  const path = find() ?? (isDebianRoot() && install() ? find() : undefined);
  if (path !== undefined) {
    process.env['CHROMIUM_PATH'] = path;
  } else if (process.env['CI']) {
    throw new Error(`no browser for the browser tests: ${remedy}`);
  } else {
    process.stderr.write(`browser: SKIPPED (no Chromium found; ${remedy})\n`);
  }
};
