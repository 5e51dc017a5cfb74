// Guards the check in front of `sluice dev`: requests under its own name and from its own pages pass, and nothing that
// a rebound name or another site's page could send.
import { describe, expect, test } from 'vitest';
import { createLoopbackCheck, isLoopbackHost } from '../../src/cli/loopback.ts';

const passes = (check: ReturnType<typeof createLoopbackCheck>, headers: Record<string, string>): boolean => {
  const response = check(new Request('http://127.0.0.1/', { headers }));
  if (response !== null) expect(response.status).toBe(403);
  return response === null;
};

describe('on 127.0.0.1 port 4080', () => {
  const check = createLoopbackCheck({ host: '127.0.0.1', port: 4080 });

  test.each(['127.0.0.1:4080', 'localhost:4080', 'LocalHost:4080', '[::1]:4080'])('%s passes', (host) => {
    expect(passes(check, { host })).toBe(true);
    expect(passes(check, { host, origin: `http://${host}` })).toBe(true);
    expect(passes(check, { host, origin: 'http://localhost:4080' })).toBe(true);
  });

  test.each([
    '127.0.0.1',
    '127.0.0.1:4081',
    '127.0.0.1:40800',
    '127.0.0.2:4080',
    'localhost.evil.example:4080',
    'evil.example',
    'evil.example:4080',
    '',
  ])('Host %j does not', (host) => {
    expect(passes(check, { host })).toBe(false);
  });

  test('no Host at all does not', () => {
    expect(passes(check, {})).toBe(false);
  });

  test.each([
    'null',
    '',
    'http://127.0.0.1',
    'http://127.0.0.1:4081',
    'https://127.0.0.1:4080',
    'http://evil.example',
    'http://evil.example:4080',
    'http://127.0.0.1:4080.evil.example',
    'http://evil.example://127.0.0.1:4080',
    'chrome-extension://127.0.0.1:4080',
  ])('Origin %j does not', (origin) => {
    expect(passes(check, { host: '127.0.0.1:4080', origin })).toBe(false);
  });
});

test('a browser leaves port 80 out', () => {
  const check = createLoopbackCheck({ host: '127.0.0.1', port: 80 });
  for (const host of ['localhost', 'localhost:80']) {
    expect(passes(check, { host, origin: `http://${host}` })).toBe(true);
  }
});

test('the address it was given counts too', () => {
  expect(passes(createLoopbackCheck({ host: '127.0.0.2', port: 1 }), { host: '127.0.0.2:1' })).toBe(true);
});

test.each([
  ['localhost', true],
  ['127.0.0.1', true],
  ['127.9.9.9', true],
  ['::1', true],
  ['0.0.0.0', false],
  ['::', false],
  ['127.0.0.1.example', false],
  ['localhost.example', false],
  ['10.0.0.1', false],
])('%s is loopback: %s', (host, expected) => {
  expect(isLoopbackHost(host)).toBe(expected);
});
