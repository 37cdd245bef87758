import type { ArgumentMetadata } from '@nestjs/common';
import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  ArrayUnique,
  IsArray,
  IsInt,
  IsObject,
  IsOptional,
  IsString,
  Matches,
  MaxLength,
  Min,
  ValidateIf,
  ValidateNested,
} from 'class-validator';
import { ServiceError } from '@platform/errors';
import { FreeForm } from './free-form.decorator';
import { RefusedAs } from './refused-as.decorator';
import { RequestValidationPipe } from './request-validation.pipe';
import { validator } from './validators';

class Line {
  @IsString()
  @Matches(/^[a-z]*$/)
  @MaxLength(3)
  sku: string;
}

class Price {
  @IsString()
  value: string;
}

@RefusedAs({ code: 'ORDER_VALIDATION_FAILED', message: 'Invalid order payload' })
class Basket {
  @IsString()
  name: string;

  @IsArray()
  @ValidateNested({ each: true })
  @Type(() => Line)
  lines: Line[];

  @IsObject()
  @ValidateNested()
  @Type(() => Price)
  price: Price;

  @FreeForm({ message: 'must be even', isValid: (value) => typeof value === 'object' || Number(value) % 2 === 0 })
  extra?: unknown;
}

class Counted {
  @IsInt()
  @Min(1)
  quantity: number;
}

class Page {
  @IsOptional()
  @Type(() => Number)
  @IsInt()
  @Min(1)
  limit: number = 50;
}

const good = () => ({ name: 'b', lines: [{ sku: 'a' }, { sku: 'b' }], price: { value: '1' } });

describe('RequestValidationPipe', () => {
  const pipe = new RequestValidationPipe();
  const body = (value: unknown, metatype: ArgumentMetadata['metatype'] = Basket) =>
    pipe.transform(value, { type: 'body', metatype });

  async function refusalOf(value: unknown, metatype?: ArgumentMetadata['metatype']): Promise<ServiceError> {
    const outcome = await body(value, metatype).catch((error: unknown) => error);
    if (outcome instanceof ServiceError) return outcome;
    throw new Error('The request was accepted', { cause: outcome });
  }
  const fieldsOf = async (value: unknown) => (await refusalOf(value)).details?.map(({ field }) => field);

  it('returns instances of the DTO and of what is nested in it', async () => {
    const basket = (await body(good())) as Basket;
    expect(basket).toBeInstanceOf(Basket);
    expect(basket.lines[1]).toBeInstanceOf(Line);
    expect(basket.price).toBeInstanceOf(Price);
    expect(basket).toEqual(good());
  });

  it.each<[string, object, string, string]>([
    ['a field', { name: 5 }, 'name', 'name must be a string'],
    ['a field of an item', { lines: [{ sku: 'a' }, { sku: 5 }] }, 'lines[1].sku', 'sku must be a string'],
    ['a field of an object', { price: { value: 1 } }, 'price.value', 'value must be a string'],
    ['an unknown field', { color: 'red' }, 'color', 'property color should not exist'],
    ['an unknown field of an item', { lines: [{ sku: 'a', id: 1 }] }, 'lines[0].id', 'property id should not exist'],
    ['an unknown field of an object', { price: { value: '1', tax: 1 } }, 'price.tax', 'property tax should not exist'],
    ['a free-form field', { extra: 1 }, 'extra', 'extra must be even'],
    ['an array for an object', { price: [] }, 'price', 'price must be an object'],
  ])('names the path of a fault: %s', async (_, change, field, message) => {
    const { details } = await refusalOf({ ...good(), ...change });
    expect(details).toContainEqual({ field, message: expect.stringContaining(message) });
    expect(new Set(details?.map((detail) => detail.field))).toEqual(new Set([field]));
  });

  it('says of a value of the wrong type that alone', async () => {
    const messageOf = async (quantity: unknown) => (await refusalOf({ quantity }, Counted)).details;
    expect(await messageOf('0')).toEqual([{ field: 'quantity', message: 'quantity must be an integer number' }]);
    expect(await messageOf(0)).toEqual([{ field: 'quantity', message: 'quantity must not be less than 1' }]);
  });

  it('names every fault at once, each message of a field by itself', async () => {
    const { details } = await refusalOf({ lines: [{ sku: 'LONG' }], price: {}, extra: 1, color: 'red' });
    expect(details?.map(({ field }) => field).sort()).toEqual([
      'color',
      'extra',
      'lines[0].sku',
      'lines[0].sku',
      'name',
      'price.value',
    ]);
  });

  it('refuses as the DTO says', async () => {
    const { code, message, status } = await refusalOf({ ...good(), name: 5 });
    expect({ code, message, status }).toEqual({
      code: 'ORDER_VALIDATION_FAILED',
      message: 'Invalid order payload',
      status: 400,
    });
  });

  it('refuses with VALIDATION_FAILED where the DTO says nothing', async () => {
    const { code, message } = await refusalOf({ limit: '0' }, Page);
    expect({ code, message }).toEqual({ code: 'VALIDATION_FAILED', message: 'Invalid request' });
  });

  it.each([undefined, null, {}])('takes a request without a body as an empty object: %p', async (value) => {
    expect(await fieldsOf(value)).toEqual(['name', 'lines', 'price']);
    expect(await body(value, Page)).toEqual({ limit: 50 });
  });

  it.each<[string, unknown]>([
    ['an array', [good()]],
    ['an empty array', []],
    ['a string', 'x'],
    ['a number', 0],
    ['a boolean', false],
  ])('refuses %s where an object belongs', async (_, value) => {
    expect((await refusalOf(value)).details?.[0]).toEqual({ field: '', message: 'must be a JSON object' });
    expect((await refusalOf(value, Page)).details).toEqual([{ field: '', message: 'must be a JSON object' }]);
  });

  it('transforms a query', async () => {
    const metadata = { type: 'query', metatype: Page } as const;
    expect(await pipe.transform(Object.assign(Object.create(null), { limit: '7' }), metadata)).toEqual({ limit: 7 });
  });

  it('lets pass what has no DTO', async () => {
    expect(await pipe.transform('7', { type: 'param', metatype: String })).toBe('7');
    expect(await pipe.transform({ any: 1 }, { type: 'custom', metatype: Basket })).toEqual({ any: 1 });
    expect(await pipe.transform({ any: 1 }, { type: 'body' })).toEqual({ any: 1 });
  });

  it('leaves the request as it came', async () => {
    const request = { ...good(), extra: 2 };
    const copy = structuredClone(request);
    await body(request);
    expect(request).toEqual(copy);
  });

  it('does not pollute the prototype of objects', async () => {
    await body(JSON.parse('{"__proto__": {"polluted": 1}}'), Page).catch(() => undefined);
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  describe('of a request with very many faults', () => {
    let checked = 0;
    const IsShort = validator('isShort', 'must be short', (value) => {
      checked += 1;
      return typeof value === 'string' && value.length < 3;
    });
    class Entry {
      @IsShort()
      text: string;
    }
    class Listed {
      @IsArray()
      @ArrayMinSize(2)
      @ArrayMaxSize(500)
      @ArrayUnique((entry: Entry) => entry.text)
      @ValidateNested({ each: true })
      @Type(() => Entry)
      entries: Entry[];
    }
    const texts = (count: number, bad: readonly number[] = []) =>
      Array.from({ length: count }, (_, place) => ({
        text: bad.includes(place) ? `long${place}` : place.toString(36),
      }));

    it('names them by their own places', async () => {
      const { details } = await refusalOf({ entries: texts(400, [7, 399]), color: 'red' }, Listed);
      expect(details).toEqual([
        { field: 'color', message: 'property color should not exist' },
        { field: 'entries[7].text', message: 'text must be short' },
        { field: 'entries[399].text', message: 'text must be short' },
      ]);
    });

    it.each<[string, (place: number) => object]>([
      ['entries', (place) => ({ text: place })],
      ['unknown fields of entries', (place) => ({ text: place.toString(36), [`b${place}`]: 1, c: 1 })],
    ])('shows the first hundred, for which it does not look at all: %s', async (_, entryOf) => {
      checked = 0;
      const { details } = await refusalOf(
        { entries: Array.from({ length: 500 }, (_, place) => entryOf(place)) },
        Listed,
      );
      expect(details).toHaveLength(100);
      expect(details?.[0]?.field).toMatch(/^entries\[0]\./);
      expect(checked).toBeLessThan(500 + 2 * 100);
    });

    it('shows the first hundred unknown fields, and the other faults if there are fewer', async () => {
      const many = Object.fromEntries(Array.from({ length: 4_000 }, (_, place) => [`f${place}`, {}]));
      const { details } = await refusalOf({ ...many, entries: texts(2) }, Listed);
      expect(details?.map(({ field }) => field)).toEqual(Object.keys(many).slice(0, 100));
      const few = { a: 1, b: 1, entries: texts(3, [1]) };
      expect((await refusalOf(few, Listed)).details?.map(({ field }) => field)).toEqual(['a', 'b', 'entries[1].text']);
    });

    it('looks at none of the entries of a list that is too long', async () => {
      checked = 0;
      const { details } = await refusalOf({ entries: texts(501) }, Listed);
      expect(details).toEqual([{ field: 'entries', message: 'entries must contain no more than 500 elements' }]);
      expect(checked).toBeLessThan(10); // those before the rule that is broken
    });

    it('says of a list that is too long what its DTO says, and nothing where its DTO does not ask', async () => {
      class Told {
        @ArrayMaxSize(1, { message: 'one is enough' })
        entries: unknown[];
      }
      class Unasked {
        @ValidateIf(() => false)
        @ArrayMaxSize(1)
        entries: unknown[];
      }
      const entries = [1, 2];
      expect((await refusalOf({ entries }, Told)).details).toEqual([{ field: 'entries', message: 'one is enough' }]);
      const { details } = await refusalOf({ entries, color: 'red' }, Unasked);
      expect(details).toEqual([{ field: 'color', message: 'property color should not exist' }]);
    });

    it('accepts no part of what is wrong as a whole', async () => {
      const { details } = await refusalOf({ entries: [...texts(300), { text: '0' }] }, Listed);
      expect(details).toEqual([{ field: 'entries', message: "All entries's elements must be unique" }]);
      expect((await refusalOf({ entries: texts(1) }, Listed)).details?.[0]?.message).toMatch(/at least 2 elements/);
      expect(await body({ entries: texts(500) }, Listed)).toEqual({ entries: texts(500) });
    });
  });

  describe('of a free-form property', () => {
    it.each<[string, string]>([
      ['an unknown field', '{"a": {"b": [1, null, "x"]}}'],
      ['names that objects have by birth', '{"constructor": 1, "toString": {"a": 2}, "hasOwnProperty": 3}'],
      ['a key named __proto__', '{"__proto__": {"a": 1}}'],
      ['a method', '{"then": 1, "toJSON": 2}'],
    ])('keeps what was sent: %s', async (_, json) => {
      const basket = (await body({ ...good(), extra: JSON.parse(json) as unknown })) as Basket;
      expect(JSON.stringify(basket.extra)).toBe(JSON.stringify(JSON.parse(json)));
      expect(basket.name).toBe('b');
    });

    it('may be absent', async () => {
      expect(Object.keys((await body(good())) as object)).not.toContain('extra');
    });

    it('refuses null by its rule', async () => {
      class Strict extends Page {
        @FreeForm({ message: 'must not be null', isValid: (value) => value !== null })
        extra?: unknown;
      }
      const { details } = await refusalOf({ extra: null }, Strict);
      expect(details).toEqual([{ field: 'extra', message: 'extra must not be null' }]);
    });
  });
});
