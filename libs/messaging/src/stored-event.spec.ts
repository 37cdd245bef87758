import { fromString, toUUID } from 'typeid-js';
import { type StoredEvent, toMessage } from './stored-event';

const UUID = '017f22e2-79b0-7cc3-98c4-dc0c0c07398f';

const stored = (change: Partial<StoredEvent> = {}): StoredEvent => ({
  position: '17',
  id: UUID,
  aggregatetype: 'order',
  aggregateid: 'ord_01fwhe4ydgfk1shh6w1g60eecf',
  type: 'order.created',
  payload: '{"orderId":"ord_01fwhe4ydgfk1shh6w1g60eecf","note":"é"}',
  sequence: 1,
  traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
  request_id: 'req-1234abcd',
  created_at: new Date('2026-01-02T03:04:05.006Z'),
  ...change,
});

describe('toMessage', () => {
  it('returns the key, the value and the headers of the contract, and no others', () => {
    expect(toMessage(stored())).toStrictEqual({
      key: 'ord_01fwhe4ydgfk1shh6w1g60eecf',
      value: '{"orderId":"ord_01fwhe4ydgfk1shh6w1g60eecf","note":"é"}',
      headers: {
        ce_specversion: '1.0',
        ce_id: 'evt_01fwhe4ydgfk1shh6w1g60eecf',
        ce_type: 'order.created',
        ce_source: '/orders',
        ce_subject: 'ord_01fwhe4ydgfk1shh6w1g60eecf',
        ce_time: '2026-01-02T03:04:05.006Z',
        ce_sequence: '1',
        ce_dataschema: 'urn:order-a2a:schema:order.created:1',
        'content-type': 'application/json',
        traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
        'x-request-id': 'req-1234abcd',
      },
    });
  });

  it.each([
    ['traceparent', { traceparent: null }],
    ['x-request-id', { request_id: null }],
  ])('leaves %s out where the event has none', (header, change) => {
    const { [header]: _, ...others } = toMessage(stored()).headers as Record<string, string>;
    expect(toMessage(stored(change)).headers).toStrictEqual(others);
  });

  it.each(['order.created', 'order.confirmed', 'order.rejected', 'order.cancelled'])('names the type %s', (type) => {
    expect(toMessage(stored({ type })).headers).toMatchObject({
      ce_type: type,
      ce_dataschema: `urn:order-a2a:schema:${type}:1`,
    });
  });

  it('writes the sequence as text', () => {
    expect(toMessage(stored({ sequence: 12 })).headers.ce_sequence).toBe('12');
  });

  it('carries the id of the row as a TypeID', () => {
    expect(toUUID(fromString(toMessage(stored()).headers.ce_id, 'evt'))).toBe(UUID);
  });

  it('is the same on every delivery', () => {
    expect(toMessage(stored({ position: '18' }))).toStrictEqual(toMessage(stored()));
  });

  it('has headers that the protocol can carry: text, under lower-case names', () => {
    const headers = Object.entries(toMessage(stored()).headers);
    expect(headers.filter(([name, value]) => name !== name.toLowerCase() || typeof value !== 'string')).toEqual([]);
  });
});
