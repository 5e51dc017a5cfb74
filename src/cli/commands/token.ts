// `sluice token`: a capability token made from SLUICE_SECRET, for `sluice serve` with the same secret. Asks no database.
import { randomUUID } from 'node:crypto';
import { Option, type Command } from 'commander';
import type { Action } from '../../http.ts';
import { messageOf } from '../../util/errors.ts';
import { parseDuration } from '../amounts.ts';
import { wrongUsage } from '../command-error.ts';
import type { Context } from '../context.ts';
import { repeated } from '../repeated.ts';

interface TokenOptions {
  readonly stream: readonly string[];
  readonly expires?: string | undefined;
  readonly principal?: string | undefined;
  readonly action?: readonly Action[] | undefined;
  /** True: under the principal. */
  readonly presence?: string | true | undefined;
  readonly ticket?: boolean | undefined;
}

export function addToken(program: Command, context: Context): void {
  program
    .command('token')
    .description(
      'print a token that lets its holder read streams from `sluice serve` (SLUICE_SECRET signs it)',
    )
    .requiredOption('--stream <name>', 'a stream, or a prefix that ends in *; may be repeated', repeated)
    .option('--expires <duration>', 'how long it is good: 90s, 12h, 30d (default 1h, a ticket 60s)')
    .option('--principal <name>', 'who it is for')
    .addOption(
      new Option('--action <action>', 'what it allows; may be repeated (default read)').argParser(repeated),
    )
    .option(
      '--presence [id]',
      'lets its holder see who is present on the streams, and be present (default: as the principal)',
    )
    .option('--ticket', 'print a ticket instead, for ?ticket= in a URL')
    .action((options: TokenOptions) => token(context, options));
}

async function token({ out }: Context, options: TokenOptions): Promise<void> {
  const { tokensFrom } = await import('../secret.ts'); // with HTTP, which other commands need not load
  const tokens = tokensFrom(process.env);
  if (!tokens) {
    throw wrongUsage(
      'SLUICE_SECRET is not set, and signs the token: make one with `openssl rand -base64 32`',
    );
  }
  const { stream: streams, principal, action: actions, ticket = false, expires } = options;
  const expiresInMs = expires === undefined ? undefined : parseDuration('--expires', expires);
  const id = randomUUID();
  const presence = typeof options.presence === 'string' ? { id: options.presence } : options.presence;
  const shared = { id, streams, principal, actions, presence };
  try {
    const made = ticket
      ? await tokens.ticket({ ...shared, expiresInMs })
      : await tokens.issue({ ...shared, expiresInMs: expiresInMs ?? 3_600_000 });
    await out.data(made, { token: made, id });
  } catch (error) {
    if (error instanceof RangeError || error instanceof TypeError) throw wrongUsage(messageOf(error));
    throw error;
  }
}
