import { type ArgumentsHost, type ExceptionFilter, Logger, type Type } from '@nestjs/common';
import { EXCEPTION_FILTERS_METADATA } from '@nestjs/common/constants';
import { KafkaContext } from '@nestjs/microservices';
import { ServiceError } from '@platform/errors';
import { currentContext, type RequestContext } from '@platform/request-context';
import { lastValueFrom, type Observable } from 'rxjs';
import { OnEvents } from './on-events';

class Consumer {
  @OnEvents('orders.events')
  consume(this: void): void {}
}

describe('OnEvents', () => {
  const warn = jest.spyOn(Logger.prototype, 'warn');
  afterEach(() => warn.mockReset());
  afterAll(() => warn.mockRestore());

  const orderId = 'ord_01fwhe4ydgfk1shh6w1g60eecf';
  const headers = { ce_id: 'evt_1', ce_subject: orderId, 'x-request-id': 'req_1' };
  const event = new KafkaContext([{ headers, offset: '7' }, 3, 'orders.events'] as never);
  const host = { switchToRpc: () => ({ getContext: () => event }) } as unknown as ArgumentsHost;
  const [Filter] = Reflect.getMetadata(EXCEPTION_FILTERS_METADATA, Consumer.prototype.consume) as [
    Type<ExceptionFilter>,
  ];
  const rejected = (filter: ExceptionFilter, error: Error) =>
    expect(lastValueFrom(filter.catch(error, host) as Observable<never>)).rejects.toBe(error);

  it('says which event could not be dealt with, of which order and request, and hands the error on', async () => {
    let context: RequestContext | undefined;
    warn.mockImplementation(() => void (context = currentContext()));
    const error = new Error('no such order');
    await rejected(new Filter(), error);
    expect(warn).toHaveBeenCalledWith(
      { err: error, eventId: 'evt_1', topic: 'orders.events', partition: 3, offset: '7' },
      'An event could not be dealt with; it is delivered again',
    );
    expect(context).toMatchObject({ orderId, requestId: 'req_1' });
  });

  it('says for one of all events that a database which is away fails them, and of each fault of their own', async () => {
    warn.mockImplementation();
    const filter = new Filter();
    for (let times = 0; times < 3; times += 1)
      await rejected(filter, ServiceError.unavailable(new Error('no database')));
    expect(warn).toHaveBeenCalledTimes(1);
    for (let times = 0; times < 2; times += 1) await rejected(filter, new Error('no such order'));
    expect(warn).toHaveBeenCalledTimes(3);
  });
});
