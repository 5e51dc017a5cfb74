// SLUICE_SECRET: what the command line signs and checks tokens with. Several stand in it with commas between them while
// one is replaced by another.
import { createTokens, type Tokens } from '../http.ts';
import { messageOf } from '../util/errors.ts';
import { wrongUsage } from './command-error.ts';

/** Undefined if the variable is not set, or empty. @throws CommandError wrong usage, for a secret that is too weak */
export function tokensFrom({ SLUICE_SECRET: text = '' }: NodeJS.ProcessEnv): Tokens | undefined {
  if (text === '') return undefined;
  try {
    return createTokens({ secret: text.split(',').map((secret) => secret.trim()), cookie: true });
  } catch (error) {
    throw wrongUsage(`SLUICE_SECRET: ${messageOf(error)}`);
  }
}
