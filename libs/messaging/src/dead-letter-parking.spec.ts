import { DeadLetterParking } from './dead-letter-parking';
import { EventRefused } from './event-publisher';

describe('DeadLetterParking', () => {
  it('refuses the event with the reason, so that the relay parks it', async () => {
    const letter = { topic: 'orders.events', partition: 0, offset: '0', consumer: 'payments', attempts: 5 };
    const message = { key: null, value: null, headers: {} };
    const sending = new DeadLetterParking().send({ ...letter, message, reason: 'no luck' });
    await expect(sending).rejects.toThrow(new EventRefused('no luck'));
    await expect(sending).rejects.toBeInstanceOf(EventRefused);
  });
});
