// Owns installing what tests need and npm does not have: a package of Debian's, where the tests run as root on Debian.
// Anywhere else it does nothing, and whoever needs the program skips, loudly.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

const isDebianRoot = (): boolean =>
  process.getuid?.() === 0 &&
  existsSync('/etc/os-release') &&
  /^ID="?debian"?$/m.test(readFileSync('/etc/os-release', 'utf8'));

/** True when every step succeeded. Its output goes to standard error: it takes a while, and may fail for a reason. */
export const installPackage = (name: string): boolean =>
  isDebianRoot() &&
  [['update'], ['install', '--yes', '--no-install-recommends', name]].every(
    (args) =>
      spawnSync('apt-get', args, {
        stdio: ['ignore', 2, 2],
        env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      }).status === 0,
  );
