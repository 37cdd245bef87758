import { loadConfig } from '@platform/config';
import { newContext, runInContext } from '@platform/request-context';
import { type Logger, pino } from 'pino';
import { QueryFailedError } from 'typeorm';
import { loggerOptions } from './logger-options';

const CANARY = 'canary';

function config(variables: Record<string, string> = {}) {
  return loadConfig('things', {
    DATABASE_URL: 'postgres://localhost/orders',
    OIDC_ISSUER: 'https://id.example',
    OIDC_AUDIENCE: 'https://orders.example',
    ...variables,
  });
}

/** What a logger writes while `work` runs, as text. */
function written(work: (logger: Logger) => void, variables?: Record<string, string>): string[] {
  const lines: string[] = [];
  work(pino(loggerOptions(config(variables)), { write: (line: string) => void lines.push(line) }));
  return lines;
}

function lineOf(work: (logger: Logger) => void): Record<string, unknown> {
  const [line, ...others] = written(work);
  expect(others).toEqual([]);
  return JSON.parse(line ?? '') as Record<string, unknown>;
}

/** An error as libraries make them, with personal data hung on it. */
function laden<T extends Error>(error: T): T {
  return Object.assign(error, {
    parameters: [CANARY],
    detail: `Key (customer_id)=(${CANARY}) already exists.`,
    query: `SELECT '${CANARY}'`,
    where: CANARY,
    config: { headers: { authorization: CANARY } },
    response: { body: CANARY },
    toJSON: () => CANARY,
  });
}

describe('loggerOptions', () => {
  it('writes one JSON object a line with time, level and message, and without process id and host', () => {
    const lines = written((logger) => logger.info('hello\nworld'));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/^\{[^\n]*\}\n$/);
    expect(JSON.parse(lines[0] ?? '')).toEqual({
      level: 'info',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      msg: 'hello\nworld',
    });
  });

  it.each([
    ['debug', ['debug', 'info', 'error']],
    ['info', ['info', 'error']],
    ['error', ['error']],
    ['silent', []],
  ])('writes what LOG_LEVEL=%s asks for', (level, expected) => {
    const lines = written(
      (logger) => {
        logger.debug('x');
        logger.info('x');
        logger.error('x');
      },
      { LOG_LEVEL: level },
    );
    expect(lines.map((line) => (JSON.parse(line) as { level: string }).level)).toEqual(expected);
  });

  describe('inside a request', () => {
    const request = () =>
      newContext({ requestId: 'req-1', traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' });

    it('says whose the line is', () => {
      const context = request();
      context.principal = { clientId: 'client', tenantId: 'tenant', scopes: new Set(['orders:read', 'orders:write']) };
      context.orderId = 'ord_1';
      const line = lineOf((logger) => runInContext(context, () => logger.info({ statusCode: 201 }, 'answered')));
      expect(line).toEqual({
        level: 'info',
        time: expect.any(String),
        requestId: 'req-1',
        clientId: 'client',
        scope: 'orders:read orders:write',
        orderId: 'ord_1',
        traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
        spanId: context.trace.spanId,
        statusCode: 201,
        msg: 'answered',
      });
    });

    it('leaves out what is not known yet', () => {
      const line = lineOf((logger) => runInContext(request(), () => logger.info('x')));
      expect(Object.keys(line).sort()).toEqual(['level', 'msg', 'requestId', 'spanId', 'time', 'traceId']);
    });

    it('says whose the error is', () => {
      const line = lineOf((logger) => runInContext(request(), () => logger.error(new Error('failed'))));
      expect(line).toMatchObject({ requestId: 'req-1', err: { message: 'failed' } });
    });

    it('does not mix requests', () => {
      const lines = written((logger) => {
        for (const requestId of ['a', 'b']) runInContext(newContext({ requestId }), () => logger.info(requestId));
        logger.info('outside');
      });
      const seen = lines.map((line) => (JSON.parse(line) as { requestId?: string }).requestId);
      expect(seen).toEqual(['a', 'b', undefined]);
    });
  });

  describe('of an error', () => {
    it('writes its type, code, message, stack and causes', () => {
      const cause = Object.assign(new RangeError('beneath'), { code: 'ERANGE' });
      const error = Object.assign(new TypeError('above', { cause }), { code: '23505' });
      const line = lineOf((logger) => logger.error({ err: error }, 'failed'));
      expect(line['msg']).toBe('failed');
      expect(line['err']).toEqual({
        type: 'TypeError',
        code: '23505',
        message: 'above',
        stack: error.stack,
        cause: { type: 'RangeError', code: 'ERANGE', message: 'beneath', stack: cause.stack },
      });
    });

    it.each<[string, () => Error]>([
      ['an error of a library', () => laden(new Error('failed'))],
      ['its cause', () => new Error('failed', { cause: laden(new Error('beneath')) })],
      ['the cause of its cause', () => new Error('a', { cause: new Error('b', { cause: laden(new Error('c')) }) })],
      ['a cause that is no error', () => new Error('failed', { cause: { body: CANARY } })],
      ['errors gathered', () => new AggregateError([laden(new Error('one'))], 'all failed')],
      ['a failed query', () => new QueryFailedError('SELECT $1', [CANARY], laden(new Error('failed')))],
      [
        'the query under another error',
        () => new Error('x', { cause: new QueryFailedError('', [CANARY], new Error()) }),
      ],
    ])('never writes what hangs on %s', (_, make) => {
      const lines = written((logger) => {
        logger.error(make());
        logger.error(make(), 'failed');
        logger.error({ err: make() }, 'failed');
        logger.warn({ err: make(), statusCode: 500 });
        logger.child({ err: make() }).info('child');
      });
      expect(lines).toHaveLength(5);
      for (const line of lines) {
        expect(JSON.parse(line)).toHaveProperty('err.message');
        expect(line).not.toContain(CANARY);
      }
    });

    it.each<[string, unknown, string]>([
      ['a string', 'failed', 'failed'],
      ['a number', 7, '7'],
      ['null', null, 'null'],
      ['an object', { body: CANARY }, '[object Object]'],
    ])('writes the text of what was thrown instead: %s', (_, thrown, message) => {
      expect(lineOf((logger) => logger.error({ err: thrown }, 'failed'))['err']).toEqual({ message });
    });
  });
});
