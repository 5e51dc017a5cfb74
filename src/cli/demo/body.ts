// Reads what the shop's POST routes are sent: size first, then type, JSON and fields. It must never buffer more than
// `maxBodyBytes`, and never accept a body a form on another site could send, which is why JSON must be declared.

import { Problem } from './problem.ts';

export interface NewOrder {
  readonly item: string;
  readonly quantity: number;
}

const maxBodyBytes = 16_384;
const maxItemLength = 80;
const maxQuantity = 99;
const maxBurst = 1_000;

/** Reads `{ item, quantity }`. */
export async function readOrder(request: Request): Promise<NewOrder> {
  const { item, quantity } = await readObject(request, '{ "item": "Fountain pen", "quantity": 1 }');
  if (typeof item !== 'string' || item.trim() === '' || item.length > maxItemLength || hasControls(item)) {
    throw invalid('item', item, `a text of 1 to ${maxItemLength} characters without control characters`);
  }
  if (!isWhole(quantity, maxQuantity))
    throw invalid('quantity', quantity, `a whole number from 1 to ${maxQuantity}`);
  return { item, quantity };
}

/** Reads `{ count }`. */
export async function readCount(request: Request): Promise<number> {
  const { count } = await readObject(request, '{ "count": 1000 }');
  if (!isWhole(count, maxBurst)) throw invalid('count', count, `a whole number from 1 to ${maxBurst}`);
  return count;
}

async function readObject(request: Request, example: string): Promise<Record<string, unknown>> {
  const type = request.headers.get('content-type');
  if (type?.split(';', 1)[0]?.trim().toLowerCase() !== 'application/json') {
    const sent = type === null ? 'no content type' : `the content type ${show(type)}`;
    throw new Problem(415, 'Unsupported media type', `The request has ${sent}; send "application/json".`);
  }
  const body = await readText(request);
  if (body.trim() === '') throw new Problem(400, 'Invalid body', `The body is empty; send ${example}.`);
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    throw new Problem(400, 'Invalid body', `The body ${show(body)} is not JSON; send ${example}.`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Problem(400, 'Invalid body', `The body is ${show(value)}, not an object; send ${example}.`);
  }
  return value as Record<string, unknown>;
}

async function readText(request: Request): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    const bytes = chunk as Uint8Array;
    size += bytes.byteLength;
    if (size > maxBodyBytes) {
      throw new Problem(413, 'Body too large', `The body is larger than ${maxBodyBytes} bytes; send less.`);
    }
    chunks.push(bytes);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
  } catch {
    throw new Problem(400, 'Invalid body', 'The body is not UTF-8; encode it as UTF-8.');
  }
}

function invalid(field: string, value: unknown, remedy: string): Problem {
  const found = value === undefined ? `"${field}" is missing` : `"${field}" is ${show(value)}`;
  return new Problem(400, 'Invalid order', `${found}; send ${remedy}.`);
}

function isWhole(value: unknown, max: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= max;
}

/** Control characters say nothing on a label, and Postgres text cannot hold U+0000. */
function hasControls(text: string): boolean {
  return /\p{Cc}/u.test(text);
}

/** A value as it was sent, short enough for a message. */
function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'undefined';
  return text.length <= 60 ? text : `${text.slice(0, 57)}…`;
}
