// Owns finding a Chromium for the browser tests, once per run, and installing Debian's when run as root there.
// Without one the browser tests are skipped, loudly, so that a clone's `npm test` works anywhere; where CI is set a
// missing browser is a failure. Workers learn its place from CHROMIUM_PATH.
import { existsSync } from 'node:fs';
import { installPackage } from './debian.ts';

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

export const setup = (): void => {
  const path = find() ?? (installPackage('chromium') ? find() : undefined);
  if (path !== undefined) {
    process.env['CHROMIUM_PATH'] = path;
  } else if (process.env['CI']) {
    throw new Error(`no browser for the browser tests: ${remedy}`);
  } else {
    process.stderr.write(`browser: SKIPPED (no Chromium found; ${remedy})\n`);
  }
};
