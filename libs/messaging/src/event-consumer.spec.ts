import { KafkaContext } from '@nestjs/microservices';
import { Spans } from '@platform/tracing';
import { EventConsumer } from './event-consumer';

describe('EventConsumer.consume', () => {
  const inbox = { once: () => Promise.resolve(true) };
  const events = new EventConsumer({} as never, inbox as never, {} as never, new Spans({ spans: undefined }), {
    inc: () => undefined,
  } as never);
  const headers = { ce_id: 'evt_1', ce_type: 'order.created', ce_subject: 'ord_1' };
  const message = { headers, value: Buffer.from('{}') };
  const aDelivery = () => new KafkaContext([message, 0, 'orders.events'] as never);
  const handlers = { 'order.created': () => Promise.resolve() };

  it('refuses a name that another consumer has, which would take its events from it', async () => {
    const delivery = aDelivery();
    await events.consume('payments', delivery, handlers);
    await events.consume('refunds', delivery, handlers);
    await expect(events.consume('payments', delivery, handlers)).rejects.toThrow(
      'Two consumers of orders.events are named payments',
    );
    await events.consume('payments', aDelivery(), handlers);
  });
});
