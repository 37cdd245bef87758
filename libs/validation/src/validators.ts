import { ValidateBy, ValidateIf, type ValidationArguments, type ValidationOptions } from 'class-validator';

/**
 * A decorator for class-validator from one function.
 * @param message follows the name of the property, as in `currency must be …`
 */
export const validator = (name: string, message: string, validate: (value: unknown, object: object) => boolean) => {
  return (options?: ValidationOptions) =>
    ValidateBy(
      {
        name,
        validator: {
          validate: (value, args?: ValidationArguments) => validate(value, args?.object ?? {}),
          defaultMessage: (args) => `${args?.property} ${message}`,
        },
      },
      options,
    );
};

/** Optional means absent: `null` is a value, and not one of the type asked for. */
export const IsAbsentOr = () => ValidateIf((_, value) => value !== undefined);

/** PostgreSQL keeps no NUL, and UTF-8 has no lone surrogates. */
export const isStorable = (text: string) => !text.includes('\0') && text.isWellFormed();

/** On a string: the database keeps it as it is. */
export const IsStorableText = validator(
  'isStorableText',
  'must not contain NUL or lone surrogates',
  (value) => typeof value !== 'string' || isStorable(value),
);

/**
 * On a string: at most so many Unicode code points, as `maxLength` of JSON Schema counts. That of class-validator leaves
 * variation selectors out.
 */
export const MaxLength = (max: number) =>
  validator(
    'maxLength',
    `must be shorter than or equal to ${max} characters`,
    (value) =>
      typeof value === 'string' && (value.length <= max || (value.length <= 2 * max && [...value].length <= max)),
  )();

const TIMESTAMP = /^(\d{4}-\d\d-\d\d)T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$/i;

/** An instant as RFC 3339 writes it, on a day that the calendar has. */
export const IsTimestamp = validator('isTimestamp', 'must be an RFC 3339 timestamp', (value) => {
  const day = typeof value === 'string' ? TIMESTAMP.exec(value)?.[1] : undefined;
  if (day === undefined) return false;
  const date = new Date(`${day}T00:00:00Z`);
  // JavaScript takes 30 February for 2 March.
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(day);
});
