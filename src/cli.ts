#!/usr/bin/env node
// The bin entry of the package: hands the command line to src/cli/main.ts and keeps its exit code. The process ends by
// itself, when everything that was opened is closed. It must never have a top-level await, so that `require()` works.
import { main } from './cli/main.ts';

const run = async (): Promise<void> => {
  process.exitCode = await main(process.argv.slice(2));
};

void run();
