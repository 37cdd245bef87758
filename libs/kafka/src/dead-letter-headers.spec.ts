import { headerText, letterHeaders, markerHeaders, oneLine, originalHeaders } from './dead-letter-headers';
import type { DeadLetter } from './dead-letters';

const TIME = new Date('2026-01-02T03:04:05.006Z');

const letter = (changes: Partial<DeadLetter> = {}): DeadLetter => ({
  message: { key: null, value: null, headers: { ce_id: Buffer.from('evt_1') } },
  topic: 'orders.events',
  partition: 3,
  offset: '9007199254740993',
  consumer: 'payments',
  reason: 'no luck',
  attempts: 5,
  ...changes,
});

describe('letterHeaders', () => {
  it('adds to the headers of the message what happened to it', () => {
    expect(letterHeaders(letter(), TIME)).toStrictEqual({
      ce_id: Buffer.from('evt_1'),
      'dlq-topic': 'orders.events',
      'dlq-partition': '3',
      'dlq-offset': '9007199254740993',
      'dlq-consumer': 'payments',
      'dlq-reason': 'no luck',
      'dlq-attempts': '5',
      'dlq-time': '2026-01-02T03:04:05.006Z',
    });
  });

  it('replaces what an earlier letter had added', () => {
    const headers = { ...letterHeaders(letter(), TIME), ...markerHeaders('0:1', 'replayed', TIME) };
    const again = letter({ message: { key: null, value: null, headers }, consumer: 'other' });
    expect(letterHeaders(again, TIME)).toStrictEqual({ ...letterHeaders(letter(), TIME), 'dlq-consumer': 'other' });
  });

  it.each([
    ['makes one line of it', 'one\r\n\ttwo\u2028three\u0000', 'one two three'],
    ['keeps 1,000 characters', 'x'.repeat(1_001), 'x'.repeat(1_000)],
    ['keeps text that is not ASCII', 'é漢😀', 'é漢😀'],
    ['leaves no half of a character', `${'x'.repeat(999)}😀`, `${'x'.repeat(999)}\ufffd`],
  ])('%s', (_, reason, expected) => {
    expect(letterHeaders(letter({ reason }), TIME)['dlq-reason']).toBe(expected);
  });

  it('keeps less of the reason when told to', () => {
    expect(letterHeaders(letter(), TIME, 2)['dlq-reason']).toBe('no');
  });
});

describe('originalHeaders', () => {
  it('returns those of the message, as they were', () => {
    const headers = { binary: Buffer.from([0, 255]), twice: [Buffer.from('a'), Buffer.from('b')], dlq: 'not ours' };
    expect(originalHeaders({ ...headers, ...letterHeaders(letter(), TIME), ce_id: undefined })).toStrictEqual({
      ...headers,
      ce_id: '',
    });
  });

  it('gives an empty value to what has none, which kafkajs could not write', () => {
    const headers = { nothing: null, twice: [null, 'a'] } as unknown as Parameters<typeof originalHeaders>[0];
    expect(originalHeaders(headers)).toStrictEqual({ nothing: '', twice: ['', 'a'] });
  });

  it('leaves out what kafkajs finds in every object and puts before a header of that name', () => {
    const value = Buffer.from('a');
    const headers = Object.fromEntries([
      ['constructor', [Object, value]],
      ['__proto__', [Object.prototype, value, null]],
    ]) as unknown as Parameters<typeof originalHeaders>[0];
    expect(Object.entries(originalHeaders(headers))).toStrictEqual([
      ['constructor', [value]],
      ['__proto__', [value, '']],
    ]);
  });
});

describe('headerText', () => {
  it.each([
    [Buffer.from('é'), 'é'],
    ['text', 'text'],
    [['a', Buffer.from('b')], 'b'],
    [[], undefined],
    [undefined, undefined],
    [null as unknown as undefined, undefined],
  ])('reads %j as %j', (value, expected) => {
    expect(headerText({ name: value }, 'name')).toBe(expected);
  });
});

describe('oneLine', () => {
  it('leaves nothing that a terminal would obey', () => {
    expect(oneLine(' a\u001b[31mb\u009b2J\n')).toBe('a [31mb 2J');
    expect(oneLine('a\u202eb\u200b \u{e0001}c\u007f')).toBe('a b c');
  });
});
