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

/** @returns what is wrong with a text of 1 to `max` Unicode code points, as `maxLength` of JSON Schema counts */
function faultOfText(value: unknown, max: number): string | undefined {
  if (typeof value !== 'string') return 'must be a string';
  if (value === '') return 'should not be empty';
  // A code point has one or two of JavaScript's characters. The MaxLength of class-validator leaves variation selectors out.
  if (value.length > max && (value.length > 2 * max || [...value].length > max))
    return `must be shorter than or equal to ${max} characters`;
  return isStorable(value) ? undefined : 'must not contain NUL or lone surrogates';
}

/** A text of 1 to `max` characters that the database can keep. */
export const IsText = (max: number) =>
  ValidateBy({
    name: 'isText',
    validator: {
      validate: (value) => faultOfText(value, max) === undefined,
      defaultMessage: (args) => `${args?.property} ${faultOfText(args?.value, max)}`,
    },
  });

const TIMESTAMP = /^(\d{4}-\d\d-\d\d)T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$/i;

/** An instant as RFC 3339 writes it, on a day that the calendar has. */
export const IsTimestamp = validator('isTimestamp', 'must be an RFC 3339 timestamp', (value) => {
  const day = typeof value === 'string' ? TIMESTAMP.exec(value)?.[1] : undefined;
  if (day === undefined) return false;
  const date = new Date(`${day}T00:00:00Z`);
  // JavaScript takes 30 February for 2 March.
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(day);
});
