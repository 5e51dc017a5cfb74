// Whom an event is for, as its writer says it: a label that servers decide on, and a connection that need not be told.
// Checked before anything is sent; who belongs to an audience is not known here.
import { SluiceError } from '../util/errors.ts';

/** Bytes of UTF-8 in a label, at most. */
const MAX_LABEL_BYTES = 128;

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** What is wrong with an audience's label; undefined if it is valid. */
export function labelProblem(label: unknown): string | undefined {
  if (typeof label !== 'string') {
    return `the label of an audience must be a string, not ${label === null ? 'null' : typeof label}`;
  }
  const shown = JSON.stringify(label.slice(0, 80));
  if (label.includes('\0') || /\p{Cs}/u.test(label)) {
    return `the label ${shown} holds U+0000 or a lone surrogate; use other characters`;
  }
  const bytes = Buffer.byteLength(label);
  return bytes < 1 || bytes > MAX_LABEL_BYTES
    ? `the label ${shown} has ${bytes} bytes; use 1 to ${MAX_LABEL_BYTES}`
    : undefined;
}

/** The label to store; null is everybody, and only `undefined` means that. @throws SluiceError name_invalid */
export function toVisibleTo(label: unknown): string | null {
  if (label === undefined) return null;
  const problem = labelProblem(label);
  if (problem !== undefined) throw new SluiceError('name_invalid', `visibleTo: ${problem}`);
  return label as string;
}

/** The connection to store, as a server compares it. @throws SluiceError name_invalid */
export function toExclude(connectionId: unknown): string | null {
  if (connectionId === undefined || connectionId === null) return null;
  if (typeof connectionId === 'string' && UUID.test(connectionId)) return connectionId.toLowerCase();
  const shown =
    typeof connectionId === 'string' ? JSON.stringify(connectionId.slice(0, 80)) : typeof connectionId;
  throw new SluiceError(
    'name_invalid',
    `exclude is ${shown}; give the connectionId of sluice:open as it was received`,
  );
}
