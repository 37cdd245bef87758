import { Exclude, Expose, Transform, Type } from 'class-transformer';
import {
  ArrayMaxSize,
  IsArray,
  IsInt,
  IsObject,
  IsOptional,
  IsString,
  MaxLength,
  Min,
  ValidateBy,
  ValidateIf,
  ValidateNested,
} from 'class-validator';
import { type ErrorDetail, ServiceError } from '@platform/errors';
import { DtoRules } from './dto-rules';
import { FreeForm } from './free-form.decorator';
import { RequestValidationPipe } from './request-validation.pipe';

class Line {
  @IsString()
  @MaxLength(3)
  sku: string;

  @IsInt()
  @Min(1)
  quantity: number = 1;
}

class Price {
  @IsString()
  currency: string;

  @ValidateBy({
    name: 'fits',
    validator: { validate: (value, args) => value === (args?.object as Price).currency },
  })
  value: string;
}

class Basket {
  @ValidateIf((_, value) => value !== undefined)
  @IsString()
  note?: string;

  @IsOptional()
  @IsString()
  remark?: string | null;

  @IsArray()
  @ArrayMaxSize(2)
  @IsObject({ each: true })
  @ValidateNested({ each: true })
  @Type(() => Line)
  lines: Line[];

  @IsObject()
  @ValidateNested()
  @Type(() => Price)
  price: Price;

  @FreeForm({ message: 'must not be 7', isValid: (value) => value !== 7 })
  extra?: unknown;
}

const good = { note: 'n', lines: [{ sku: 'a', quantity: 2 }, { sku: 'b' }], price: { currency: 'U', value: 'U' } };

const VALUES: unknown[] = [
  ...[undefined, null, true, 0, 1, -1, 1.5, 7, '', 'a', 'U', 'long', [], ['a'], [[]], [null], [{}], {}, { a: 1 }],
  ...[[{ sku: 'a' }], [{ sku: 'a', quantity: '1' }], [{ sku: 'a' }, 1], [{ sku: 'a', more: 1 }]],
  ...[[[{ sku: 'a' }]], [{ sku: 'a' }, { sku: 'a' }, { sku: 'a' }], { 0: { sku: 'a' } }],
  ...[{ currency: 'U', value: 'U' }, { currency: 'U', value: 'V' }, { currency: 'U' }, [{ currency: 'U', value: 'U' }]],
  ...[{ currency: { a: 1 }, value: 'U' }, JSON.parse('{"__proto__": {"currency": "U", "value": "U"}}')],
];

const FIELDS = ['note', 'remark', 'lines', 'price', 'extra', 'unknown', 'toString', '__proto__', 'constructor'];

/** A request that differs from the good one in one field, or in two. */
const requests = FIELDS.flatMap((field) =>
  VALUES.flatMap((value) => {
    const one = JSON.stringify({ ...good, [field]: value });
    const named = field === '__proto__' ? JSON.stringify({ ...good, x: value }).replace('"x"', '"__proto__"') : one;
    return [named, JSON.stringify({ ...(JSON.parse(named) as object), extra: 7 })];
  }),
);

describe('DtoRules', () => {
  const judged = new RequestValidationPipe();
  /** What class-validator and class-transformer make of it, without the shorter way. */
  const asked = async (json: string) => {
    const shorterWay = jest.spyOn(DtoRules, 'of').mockReturnValue(undefined);
    const outcome = await outcomeOf(json);
    shorterWay.mockRestore();
    return outcome;
  };
  /** An instance, or the faults as they are shown. */
  const outcomeOf = (json: string) =>
    judged
      .transform(JSON.parse(json), { type: 'body', metatype: Basket })
      .catch(({ details }: ServiceError) => details) as Promise<object | ErrorDetail[]>;

  it(`admits nothing that class-validator refuses, and makes the same of it, in ${requests.length} requests`, async () => {
    const rules = DtoRules.of(Basket);
    let accepted = 0;
    for (const json of requests) {
      const expected = await asked(json);
      const admitted = rules?.admit(JSON.parse(json));
      // To be refused here without reason costs time; to be admitted without it would be a fault.
      if (admitted) expect({ json, admitted }).toStrictEqual({ json, admitted: expected });
      if (admitted) expect(JSON.stringify(admitted)).toBe(JSON.stringify(expected));
      if (admitted) accepted += 1;
    }
    expect(accepted).toBeGreaterThan(20);
    expect(accepted).toBeLessThan(requests.length - 200);
  });

  it('leads to the same answer as class-validator alone, which then sees an excerpt only', async () => {
    for (const json of requests) {
      // Of a list that is too long the entries are not looked at.
      if ((JSON.parse(json) as typeof good).lines?.length > 2) continue;
      expect({ json, outcome: await outcomeOf(json) }).toEqual({ json, outcome: await asked(json) });
    }
  });

  it('admits a good request', () => {
    const admitted = DtoRules.of(Basket)?.admit(good) as Basket;
    expect(admitted).toBeInstanceOf(Basket);
    expect(admitted.lines[1]).toStrictEqual(Object.assign(new Line(), { sku: 'b' }));
    expect(admitted.price).toBeInstanceOf(Price);
  });

  it.each([undefined, null, 'x', 1, [good], []])('does not admit %j', (value) => {
    expect(DtoRules.of(Basket)?.admit(value)).toBeUndefined();
  });

  class Converted {
    @IsInt()
    @Type(() => Number)
    limit: number;
  }
  class Normalized {
    @IsString()
    @Transform(({ value }) => (typeof value === 'string' ? value.normalize() : (value as unknown)))
    name: string;
  }
  class Reversed {
    @IsArray()
    @ValidateNested({ each: true })
    @Type(() => Line)
    @Transform(({ value }) => (Array.isArray(value) ? (value as unknown[]).toReversed() : (value as unknown)))
    lines: Line[];
  }
  class Excluded {
    @IsString()
    @Exclude()
    name: string;
  }
  class Renamed {
    @IsString()
    @Expose({ name: 'other' })
    name: string;
  }
  class Grouped {
    @IsString({ groups: ['one'] })
    name: string;
  }
  class Slow {
    @ValidateBy({ name: 'slow', async: true, validator: { validate: () => Promise.resolve(false) } })
    name: string;
  }
  class Untyped {
    @ValidateNested()
    line: object;
  }
  class Bare {}

  const left = [Converted, Normalized, Reversed, Excluded, Renamed, Grouped, Untyped, Bare, undefined, String];
  it.each(left)('leaves %p to class-validator', (dto) => {
    expect(DtoRules.of(dto)).toBeUndefined();
  });

  it('does not take the promise of an answer for one', () => {
    expect(DtoRules.of(Slow)?.admit({ name: 'a' })).toBeUndefined();
  });
});
