import { type ArgumentsHost, type ExceptionFilter, Logger, type Type } from '@nestjs/common';
import { EXCEPTION_FILTERS_METADATA } from '@nestjs/common/constants';
import { KafkaContext } from '@nestjs/microservices';
import { currentContext, type RequestContext } from '@platform/request-context';
import { lastValueFrom, type Observable } from 'rxjs';
import { OnEvents } from './on-events';

class Consumer {
  @OnEvents('orders.events')
  consume(this: void): void {}
}

it('OnEvents says which event could not be dealt with, of which order and request, and hands the error on', async () => {
  const [Filter] = Reflect.getMetadata(EXCEPTION_FILTERS_METADATA, Consumer.prototype.consume) as [
    Type<ExceptionFilter>,
  ];
  const orderId = 'ord_01fwhe4ydgfk1shh6w1g60eecf';
  const headers = { ce_id: 'evt_1', ce_subject: orderId, 'x-request-id': 'req_1' };
  const event = new KafkaContext([{ headers, offset: '7' }, 3, 'orders.events'] as never);
  const host = { switchToRpc: () => ({ getContext: () => event }) } as unknown as ArgumentsHost;
  let context: RequestContext | undefined;
  const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => void (context = currentContext()));
  const error = new Error('no database');
  await expect(lastValueFrom(new Filter().catch(error, host) as Observable<never>)).rejects.toBe(error);
  expect(warn).toHaveBeenCalledWith(
    { err: error, eventId: 'evt_1', topic: 'orders.events', partition: 3, offset: '7' },
    'An event could not be dealt with; it is delivered again',
  );
  expect(context).toMatchObject({ orderId, requestId: 'req_1' });
  warn.mockRestore();
});
