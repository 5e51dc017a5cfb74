// Guards the one place where PostgreSQL's errors become ours: every state our SQL raises has a code, every code says
// truly whether to try again, and nothing that went wrong loses its cause.
import { DatabaseError } from 'pg';
import { describe, expect, test } from 'vitest';
import { fromDatabase, OWN_SQLSTATES, translated } from '../../src/db/sqlstate.ts';
import { SluiceError } from '../../src/util/errors.ts';
import { filesUnder } from '../support/tidy/files.ts';

const databaseError = (code: string, message: string, hint?: string): DatabaseError =>
  Object.assign(new DatabaseError(message, 1, 'error'), { code, hint });

const networkError = (code: string): Error =>
  Object.assign(new Error(`connect ${code} 127.0.0.1:1`), { code });

const translate = (error: unknown): SluiceError => {
  const translated = fromDatabase(error);
  expect(translated).toBeInstanceOf(SluiceError);
  return translated as SluiceError;
};

describe('what our SQL raises', () => {
  const raised = filesUnder('sql', ['.sql']).flatMap(({ text }) =>
    [...text.matchAll(/errcode\s*=\s*'(\w+)'/g)].map(([, code]) => code!),
  );

  test('every state of our own has a code, and none is listed that nobody raises', () => {
    const own = raised.filter((code) => code.startsWith('SL'));
    expect([...new Set(own)].sort()).toEqual(Object.keys(OWN_SQLSTATES).sort());
  });

  test('our own are of a class that the standard leaves to implementations', () => {
    for (const code of Object.keys(OWN_SQLSTATES)) expect(code).toMatch(/^[I-Z][0-9A-Z]{4}$/);
  });

  test('the borrowed ones have a code too', () => {
    for (const code of raised.filter((each) => each !== '22023'))
      expect(translate(databaseError(code, 'why')).code, code).toBeTypeOf('string');
  });

  test('a value that makes no sense is a RangeError, like those the library finds itself', () => {
    const error = fromDatabase(databaseError('22023', 'its head is 5', 'before 6 trims all'));
    expect(error).toBeInstanceOf(RangeError);
    expect(error).toMatchObject({
      message: 'its head is 5; before 6 trims all',
      cause: expect.any(DatabaseError),
    });
  });
});

test.each([
  ['SL001', 'stream_not_found', false],
  ['SL003', 'stream_closed', false],
  ['22P02', 'payload_invalid', false],
  ['54001', 'payload_invalid', false],
  ['55P03', 'overloaded', true],
  ['40P01', 'overloaded', true], // all of it is undone, and nobody else was to blame
  ['53300', 'overloaded', true],
  ['28P01', 'permission_denied', false],
  ['42501', 'permission_denied', false],
  ['42P01', 'schema_mismatch', false],
  ['25006', 'unsupported_server', false], // a primary that became a standby, a read-only transaction
  ['57P01', 'connection_lost', true], // the server shuts down
  ['57P03', 'connection_lost', true], // it is starting up
  ['57P05', 'connection_lost', true], // idle_session_timeout
  ['08006', 'connection_lost', true],
] as const)('%s is %s', (state, code, retryable) => {
  const error = databaseError(state, 'what happened');
  expect(translate(error)).toMatchObject({ code, retryable, cause: error });
  expect(translate(error).message).toContain('what happened');
});

test('the hint of the database comes with its message, or our own remedy', () => {
  expect(translate(databaseError('SL001', 'no stream', 'create it')).message).toBe('no stream; create it');
  expect(translate(databaseError('42501', 'permission denied for table t')).message).toMatch(
    /^permission denied for table t; check the user[^;]*: `npx sluice doctor` says what is missing$/,
  );
});

test.each([
  'ECONNREFUSED',
  'ECONNRESET',
  'ETIMEDOUT',
  'EPIPE',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENOENT',
  'EACCES', // a socket in the file system
  'EADDRNOTAVAIL',
  'ERR_TLS_CERT_ALTNAME_INVALID',
  'ERR_SSL_WRONG_VERSION_NUMBER',
  'CERT_HAS_EXPIRED',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'EPROTO',
])('%s is a lost connection, which may come back', (code) => {
  expect(translate(networkError(code))).toMatchObject({ code: 'connection_lost', retryable: true });
});

test('what the driver throws without a code is recognised', () => {
  for (const message of [
    'Connection terminated unexpectedly',
    'Connection terminated due to connection timeout',
    'Client has encountered a connection error and is not queryable',
    'timeout expired',
    'timeout exceeded when trying to connect',
    'The server does not support SSL connections',
    'There was an error establishing an SSL connection',
  ]) {
    expect(translate(new Error(message)).code).toBe('connection_lost');
  }
});

test('a connection that the pool gave up is told as that, not as one that ended by itself', () => {
  const ended = new Error('Connection terminated unexpectedly');
  const byPool = new Error('Connection terminated due to connection timeout', { cause: ended });
  for (const thrown of [byPool, new Error('Failed query: x', { cause: byPool })]) {
    expect(translate(thrown).message).toMatch(/ due to connection timeout$/);
  }
});

test('a login that fails on our side, for want of a password, is a login that failed', () => {
  const error = translate(new Error('SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string'));
  expect(error).toMatchObject({ code: 'permission_denied', retryable: false });
  expect(error.message).toMatch(/password must be a string; check the user, the password/);
});

test('every address that was tried is named', () => {
  const both = new AggregateError([networkError('ECONNREFUSED'), new Error('connect ECONNREFUSED ::1:1')]);
  const error = translate(Object.assign(both, { code: 'ECONNREFUSED' }));
  expect(error.message).toContain('127.0.0.1:1');
  expect(error.message).toContain('::1:1');
});

describe('what a library wrapped', () => {
  const plain = databaseError('SL003', "stream 's' is closed", 'make another');
  test.each([
    ['Drizzle', new Error('Failed query: select secret', { cause: plain })],
    ['TypeORM', Object.assign(new Error('failed'), { driverError: plain })],
    ['something that wraps twice', new Error('outer', { cause: new Error('inner', { cause: plain }) })],
    [
      'something with a code of its own',
      Object.assign(new Error('outer', { cause: plain }), { code: 'QUERY_FAILED' }),
    ],
    [
      'Prisma',
      Object.assign(new Error('Invalid invocation'), {
        code: 'P2010',
        meta: {
          driverAdapterError: {
            cause: {
              originalCode: plain.code,
              originalMessage: plain.message,
              hint: plain.hint,
              kind: 'postgres',
            },
          },
        },
      }),
    ],
    [
      'Prisma before its driver adapters',
      Object.assign(new Error('Invalid invocation'), {
        code: 'P2010',
        meta: { code: plain.code, message: plain.message, hint: plain.hint },
      }),
    ],
  ])('by %s is found, and its own message is told', (_, wrapped) => {
    expect(translate(wrapped)).toMatchObject({
      code: 'stream_closed',
      message: "stream 's' is closed; make another",
      cause: wrapped,
    });
  });

  test('a lost connection too, with a code and without', () => {
    const lost = new Error('Connection terminated unexpectedly');
    expect(translate(new Error('Failed query: x', { cause: lost }))).toMatchObject({
      code: 'connection_lost',
      message: 'the connection to PostgreSQL failed: Connection terminated unexpectedly',
    });
    for (const code of ['CONNECTION_CLOSED', 'CONNECTION_ENDED', 'CONNECTION_DESTROYED', 'CONNECT_TIMEOUT']) {
      expect(translate(networkError(code)).code, code).toBe('connection_lost');
    }
  });

  test('what knows nothing of PostgreSQL passes through, and a circle ends', () => {
    const circle: Error & { code?: string } = new Error('round');
    circle.cause = circle;
    const own = Object.assign(new Error('no engine'), { code: 'P1001', meta: { code: 1 } });
    for (const thrown of [circle, own]) expect(fromDatabase(thrown)).toBe(thrown);
  });
});

test('what is not known passes through as it is', async () => {
  const unknown = [
    databaseError('40001', 'could not serialize access'),
    new TypeError('mine'),
    'a string',
    undefined,
    null,
  ];
  for (const thrown of unknown) expect(fromDatabase(thrown)).toBe(thrown);
  const own = new SluiceError('closed', 'closed');
  await expect(translated(() => Promise.reject(own))).rejects.toBe(own);
});
