// How a stream looks on the command line, alone and in a list, and what is said when it is not there.
import { SluiceError, type StreamInfo } from '../index.ts';
import { printable } from './output.ts';

export const describeStream = ({ name, head, oldest, createdAt, closed }: StreamInfo): string =>
  [
    `name     ${printable(name)}`,
    `head     ${head}`,
    `oldest   ${oldest}`,
    `created  ${createdAt.toISOString()}`,
    `closed   ${closed ? 'yes' : 'no'}`,
  ].join('\n');

const columns = (head: string, oldest: string, created: string, state: string): string =>
  `${head.padStart(10)}  ${oldest.padStart(10)}  ${created.padEnd(24)}  ${state.padEnd(6)}`;

export const listHeading: string = `${columns('head', 'oldest', 'created', 'state')}  name`;

export const listStream = ({ name, head, oldest, createdAt, closed }: StreamInfo): string =>
  `${columns(String(head), String(oldest), createdAt.toISOString(), closed ? 'closed' : 'open')}  ${printable(name)}`;

export const streamNotFound = (name: string): SluiceError =>
  new SluiceError(
    'stream_not_found',
    `stream ${JSON.stringify(name)} does not exist; \`sluice streams\` lists those that do`,
  );
