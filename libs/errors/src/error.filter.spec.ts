import { type ArgumentsHost, Logger } from '@nestjs/common';
import { ErrorFilter } from './error.filter';
import { ServiceError } from './service-error';

describe('ServiceError', () => {
  it('shortens what clients made up to 512 characters, and cuts no character in two', () => {
    const name = `${'x'.repeat(511)}😀`;
    const { details } = new ServiceError('VALIDATION_FAILED', 'no', { details: [{ field: name, message: name }] });
    const short = `${'x'.repeat(511)}\ufffd`;
    expect(details).toEqual([{ field: short, message: short }]);
  });
});

describe('ErrorFilter', () => {
  const error = jest.spyOn(Logger.prototype, 'error').mockImplementation();
  afterEach(() => error.mockClear());
  afterAll(() => error.mockRestore());

  const res = { locals: {}, headersSent: true, getHeader: () => 'req-1', emit: () => true, destroy: () => undefined };
  const host = { switchToHttp: () => ({ getRequest: () => ({}), getResponse: () => res }) } as unknown as ArgumentsHost;

  it('tells of each crash, and of a dependency that is away not for each request', () => {
    const filter = new ErrorFilter();
    const crash = new Error('a bug');
    for (let times = 0; times < 2; times += 1) filter.catch(crash, host);
    const message = 'The service failed to answer';
    const line = [{ err: crash, code: 'INTERNAL_ERROR' }, message];
    expect(error.mock.calls).toEqual([line, line]);

    error.mockClear();
    const away = new Error('no database');
    for (let times = 0; times < 3; times += 1) filter.catch(ServiceError.unavailable(away), host);
    const once = [{ err: away, code: 'SERVICE_UNAVAILABLE' }, 'The service cannot answer right now; try again'];
    expect(error.mock.calls).toEqual([once]);
  });
});
