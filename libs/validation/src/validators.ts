import { ValidateBy, ValidateIf, type ValidationArguments, type ValidationOptions } from 'class-validator';

/**
 * Makes a class-validator decorator of a function.
 * @param message appended to the property's name, as in `currency must be …`
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

/** Optional means absent: `null` is a value, and one of the wrong type. */
export const IsAbsentOr = () => ValidateIf((_, value) => value !== undefined);

export const isJsonObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** PostgreSQL text cannot contain NUL, and UTF-8 cannot encode lone surrogates. */
export const isStorable = (text: string) => !text.includes('\0') && text.isWellFormed();

/**
 * @returns the fault of a text that must have 1 to `max` code points, as JSON Schema counts; undefined if there is none
 */
function faultOfText(value: unknown, max: number): string | undefined {
  if (typeof value !== 'string') return 'must be a string';
  if (value === '') return 'should not be empty';
  // A code point is one or two UTF-16 code units. class-validator's MaxLength does not count variation selectors.
  if (value.length > max && (value.length > 2 * max || [...value].length > max))
    return `must be shorter than or equal to ${max} characters`;
  return isStorable(value) ? undefined : 'must not contain NUL or lone surrogates';
}

/** A text of 1 to `max` code points that the database can store. */
export const IsText = (max: number) =>
  ValidateBy({
    name: 'isText',
    validator: {
      validate: (value) => faultOfText(value, max) === undefined,
      defaultMessage: (args) => `${args?.property} ${faultOfText(args?.value, max)}`,
    },
  });

const TIMESTAMP = /^(\d{4}-\d\d-\d\d)T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$/i;

/** An RFC 3339 timestamp whose date exists. */
export const IsTimestamp = validator('isTimestamp', 'must be an RFC 3339 timestamp', (value) => {
  const day = typeof value === 'string' ? TIMESTAMP.exec(value)?.[1] : undefined;
  if (day === undefined) return false;
  const date = new Date(`${day}T00:00:00Z`);
  // JavaScript parses 30 February as 2 March.
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(day);
});
