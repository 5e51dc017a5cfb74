// `sluice doctor`: looks at everything Sluice needs of a database and says what is wrong and what mends it. Fails if
// anything is bad.
import type { Command } from 'commander';
import { waitOrAbort } from '../../util/abort.ts';
import { CommandError } from '../command-error.ts';
import type { Context } from '../context.ts';
import { examine } from '../doctor/examine.ts';
import type { Finding } from '../doctor/finding.ts';
import { printable } from '../output.ts';
import { requireTarget } from '../target.ts';

export function addDoctor(program: Command, context: Context): void {
  program
    .command('doctor')
    .description('check the database for everything Sluice needs, and say how to fix what is missing')
    .action(() => doctor(context));
}

async function doctor({ out, signal, globals }: Context): Promise<void> {
  const findings = await waitOrAbort(examine(await requireTarget(globals())), signal);
  await out.data(findings.map(toText).join('\n'), findings);
  const worst = findings.filter(({ level }) => level === 'bad');
  if (worst.length === 0) return;
  throw new CommandError('unhealthy', `not as it must be: ${worst.map(({ name }) => name).join(', ')}`);
}

const toText = ({ name, level, message, remedy }: Finding): string => {
  const line = `${level.padEnd(4)}  ${name.padEnd(20)}  ${message}`;
  return printable(remedy === undefined ? line : `${line}\n      ${' '.repeat(20)}  -> ${remedy}`);
};
