// Guards the shape of messages: lists become one line, and nothing that is printed can steer a terminal.
import { expect, test } from 'vitest';
import { oneLine, printable } from '../../src/cli/output.ts';

test('a message with a list becomes one line', () => {
  const message =
    'There is no server. Do one of these:\n  - set DATABASE_URL\n  - install one\nFound, but:\n  - /a is old\n';
  expect(oneLine(message)).toBe(
    'There is no server. Do one of these: set DATABASE_URL; install one; Found, but: /a is old',
  );
});

test('control characters and turned text are printed as escapes', () => {
  expect(printable('a\u001b[31m\u009b\u0007\u202e\u2066\u2028b\r')).toBe(
    'a\\u001b[31m\\u009b\\u0007\\u202e\\u2066\\u2028b\\u000d',
  );
  expect(printable('tab\tnew\nline é 😀')).toBe('tab\tnew\nline é 😀');
});
