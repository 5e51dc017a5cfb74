// Owns the one number that every durable write depends on: how long the disk takes to flush.
import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { median } from './statistics.mjs';

const WRITES = 200;
const BYTES = 8192; // a page of the write-ahead log

/**
 * Writes a page and flushes it, 200 times, to a file in `folder`; the median in milliseconds. The file is not
 * preallocated, so a flush includes the growth of the file; `null` when the folder cannot be written.
 *
 * @param {string} folder
 */
export function measureFlush(folder) {
  const path = join(folder, `flush-${process.pid}`);
  let file;
  try {
    file = openSync(path, 'w');
  } catch {
    return null;
  }
  try {
    const page = Buffer.alloc(BYTES, 1);
    // Written once before, so that a flush is of data alone, as in a segment of the log that is used again.
    for (let n = 0; n < WRITES; n += 1) writeSync(file, page, 0, BYTES, n * BYTES);
    fdatasyncSync(file);
    const times = [];
    for (let n = 0; n < WRITES; n += 1) {
      const started = performance.now();
      writeSync(file, page, 0, BYTES, n * BYTES);
      fdatasyncSync(file);
      times.push(performance.now() - started);
    }
    return median(times);
  } finally {
    closeSync(file);
    rmSync(path, { force: true });
  }
}
