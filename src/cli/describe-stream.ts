// How a stream looks on the command line, alone and in a list, and what is said when it is not there.
import { SluiceError, type StreamDetails, type StreamInfo, type StreamOptions } from '../index.ts';
import { durationText } from './amounts.ts';
import { printable } from './output.ts';

export const describeStream = (stream: StreamDetails): string =>
  [
    `name     ${printable(stream.name)}`,
    `head     ${stream.head}`,
    `oldest   ${stream.oldest}`,
    `events   ${stream.count}`,
    `bytes    ${stream.bytes}${stream.count > EXACT_UP_TO ? ' (estimated)' : ''}`,
    `rate     ${perSecond(stream.rates.lastMinute)} in the last minute, ${perSecond(stream.rates.lastHour)} in the last hour`,
    `keeps    ${describeRetention(stream.retention)}`,
    `keys     remembered for ${durationText(stream.idempotencyWindowMs)}`,
    `created  ${stream.createdAt.toISOString()}`,
    `closed   ${stream.closed ? 'yes' : 'no'}`,
  ].join('\n');

/** See StreamDetails.bytes. */
const EXACT_UP_TO = 1000n;

const perSecond = (rate: number): string => `${Number(rate.toPrecision(3))} /s`;

function describeRetention({ maxAgeMs, maxCount, maxBytes }: StreamOptions): string {
  const bounds = [
    maxAgeMs === undefined ? [] : [durationText(maxAgeMs)],
    maxCount === undefined ? [] : [`${maxCount} events`],
    maxBytes === undefined ? [] : [`${maxBytes} bytes`],
  ].flat();
  return bounds.length === 0 ? 'everything' : `at most ${bounds.join(', ')}`;
}

const columns = (numbers: readonly (bigint | string)[], created: string, state: string): string =>
  `${numbers.map((each) => String(each).padStart(10)).join('  ')}  ${created.padEnd(24)}  ${state.padEnd(6)}`;

export const listHeading: string = `${columns(['head', 'oldest', 'events'], 'created', 'state')}  name`;

export const listStream = ({ name, head, oldest, count, createdAt, closed }: StreamInfo): string => {
  const state = closed ? 'closed' : 'open';
  return `${columns([head, oldest, count], createdAt.toISOString(), state)}  ${printable(name)}`;
};

export const streamNotFound = (name: string): SluiceError =>
  new SluiceError('stream_not_found', `stream ${JSON.stringify(name)} does not exist`);
