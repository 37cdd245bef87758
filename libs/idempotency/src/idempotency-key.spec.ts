import { ServiceError } from '@platform/errors';
import { idempotencyKey } from './idempotency-key';

const REFUSAL = { code: 'ORDER_VALIDATION_FAILED', message: 'Invalid order payload' } as const;
const UUID = '9d0c2c1b-27e7-4e65-8a1b-43f684c2d7a9';
const LONGEST = 'k'.repeat(255);
const VISIBLE = Array.from({ length: 0x7e - 0x21 + 1 }, (_, index) => String.fromCharCode(0x21 + index)).join('');

function refusalOf(header: string | undefined, field: string | undefined): ServiceError {
  try {
    idempotencyKey(header, field, REFUSAL);
  } catch (error) {
    if (error instanceof ServiceError) return error;
    throw error;
  }
  throw new Error('The key was accepted');
}

describe('idempotencyKey', () => {
  it.each<[string, string | undefined, string | undefined, string]>([
    ['a bare header', UUID, undefined, UUID],
    ['a quoted header', `"${UUID}"`, undefined, UUID],
    ['white space around a bare header', `  ${UUID}\t`, undefined, UUID],
    ['white space around a quoted header', ` "${UUID}" `, undefined, UUID],
    ['an escaped quote and backslash', '"with\\"and\\\\in"', undefined, 'with"and\\in'],
    ['the body', undefined, UUID, UUID],
    ['both alike', UUID, UUID, UUID],
    ['a quoted header and a body alike', `"${UUID}"`, UUID, UUID],
    ['10 characters', 'k'.repeat(10), undefined, 'k'.repeat(10)],
    ['255 characters', LONGEST, undefined, LONGEST],
    ['255 characters in quotes', `"${LONGEST}"`, undefined, LONGEST],
    ['every visible character', undefined, VISIBLE, VISIBLE],
    ['quotes in a body, which are part of the key', undefined, `"${UUID}"`, `"${UUID}"`],
    ['a lone quote, which is part of the key', `"${UUID}`, undefined, `"${UUID}`],
  ])('takes the key from %s', (_, header, field, key) => {
    expect(idempotencyKey(header, field, REFUSAL)).toBe(key);
  });

  it('refuses a request without a key with IDEMPOTENCY_KEY_REQUIRED', () => {
    const error = refusalOf(undefined, undefined);
    expect(error.code).toBe('IDEMPOTENCY_KEY_REQUIRED');
    expect(error.status).toBe(400);
  });

  it.each([
    ['another', UUID, 'another-key-than-that'],
    ['one in another case', UUID, UUID.toUpperCase()],
    ['a quoted other', `"${UUID}"`, 'another-key-than-that'],
    ['an empty one in the header', '', UUID],
    ['an empty one in the body', UUID, ''],
  ])('refuses two keys that differ, as the route refuses: %s', (_, header, field) => {
    const error = refusalOf(header, field);
    expect(error).toMatchObject(REFUSAL);
    expect(error.details).toEqual([
      { field: 'Idempotency-Key', message: 'Idempotency-Key and idempotencyKey must be the same' },
    ]);
  });

  const malformed: [string, string][] = [
    ['nothing', ''],
    ['9 characters', 'k'.repeat(9)],
    ['256 characters', 'k'.repeat(256)],
    ['a blank', 'with a blank in it'],
    ['a line feed at the end of a quote', '"0123456789\n"'],
    ['a control character', '0123456789\x7f'],
    ['a letter beyond ASCII', '0123456789é'],
  ];

  it.each([
    ...malformed,
    ['9 characters in quotes', '"123456789"'],
    ['empty quotes', '""'],
    ['two headers in one', `${UUID}, ${UUID}`],
  ])('refuses a header with %s, as the route refuses', (_, header) => {
    const error = refusalOf(header, undefined);
    expect(error).toMatchObject(REFUSAL);
    expect(error.details).toEqual([
      { field: 'Idempotency-Key', message: 'Idempotency-Key must have 10 to 255 visible ASCII characters' },
    ]);
  });

  it.each([...malformed, ['a line feed at the end', '0123456789\n'], ['white space around it', ` ${UUID} `]])(
    'refuses a body with %s, as the route refuses',
    (_, field) => {
      const error = refusalOf(undefined, field);
      expect(error).toMatchObject(REFUSAL);
      expect(error.details).toEqual([
        { field: 'idempotencyKey', message: 'idempotencyKey must have 10 to 255 visible ASCII characters' },
      ]);
    },
  );
});
