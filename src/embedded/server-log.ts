// Owns what the server and its tools say: a file without a name, so that nothing is left behind however we end, and
// the server never waits for us to read. Kept for one purpose, the reason in an error message; it must never be
// searched for words. It grows by what the server logs (by default not the errors of single statements, see server.ts).
import { randomBytes } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';

const tailBytes = 4096;
const tailLines = 15;

export interface ServerLog {
  readonly fd: number;
  /** What is there by now is of no interest any more. */
  begin(): void;
  /** The last lines, indented for an error message. */
  tail(): string;
  close(): void;
}

export const openLog = (folder: string): ServerLog => {
  const path = join(folder, `sluice-log-${randomBytes(8).toString('hex')}`);
  const fd = openSync(path, 'ax+', 0o600);
  unlinkSync(path);
  let closed = false;
  let start = 0;
  return {
    fd,
    begin: () => {
      start = fstatSync(fd).size;
    },
    tail: () => {
      const { size } = fstatSync(fd);
      const bytes = Buffer.alloc(Math.min(size - start, tailBytes));
      readSync(fd, bytes, 0, bytes.length, size - bytes.length);
      const lines = bytes.toString('utf8').trimEnd().split('\n').slice(-tailLines);
      return lines.map((line) => `  ${line}`).join('\n');
    },
    close: () => {
      if (!closed) closeSync(fd);
      closed = true;
    },
  };
};
