// What every command works with: the global options, where output goes, and the signal that asks it to stop.
import type { Output } from './output.ts';
import type { Stop } from './stop.ts';

export interface GlobalOptions {
  readonly databaseUrl?: string | undefined;
  /** Whether the address stands on the command line or in the environment. */
  readonly databaseUrlSource?: 'cli' | 'env' | undefined;
  readonly schema?: string | undefined;
}

export interface Context {
  readonly out: Output;
  readonly stop: Stop;
  readonly signal: AbortSignal;
  /** Known once the command line is parsed. */
  readonly globals: () => GlobalOptions;
}
