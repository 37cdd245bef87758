import { ERROR_STATUS, type ErrorCode } from './error-code';

/** A fault of a request: the path of the field, as in `items[0].sku`, and what is wrong with it. */
export interface ErrorDetail {
  readonly field: string;
  readonly message: string;
}

/** More details help no client. */
export const MAX_DETAILS = 100;
/** Characters of a path or message. Both can contain field names that the client made up. */
const MAX_TEXT_LENGTH = 512;

interface ServiceErrorOptions {
  readonly details?: readonly ErrorDetail[];
  /** Headers of the error response, for example `WWW-Authenticate`. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The underlying error. It is logged, and never shown to the client. */
  readonly cause?: unknown;
}

/** The only way to fail a request on purpose. The client sees the message: it must contain no secrets and no values. */
export class ServiceError extends Error {
  override readonly name = 'ServiceError';
  readonly details: readonly ErrorDetail[] | undefined;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    readonly code: ErrorCode,
    message: string,
    options: ServiceErrorOptions = {},
  ) {
    super(message, { cause: options.cause });
    this.details = options.details?.slice(0, MAX_DETAILS).map(({ field, message }) => ({
      field: shorten(field),
      message: shorten(message),
    }));
    this.headers = options.headers ?? {};
  }

  get status(): number {
    return ERROR_STATUS[this.code];
  }

  /** A dependency is unavailable: 503 with `Retry-After: 1`. */
  static unavailable(cause: unknown): ServiceError {
    return new ServiceError('SERVICE_UNAVAILABLE', 'The service cannot answer right now; try again', {
      headers: { 'Retry-After': '1' },
      cause,
    });
  }

  /** Whether a dependency is unavailable, so that the same call may succeed soon. */
  static isUnavailable(error: unknown): error is ServiceError {
    return error instanceof ServiceError && error.code === 'SERVICE_UNAVAILABLE';
  }
}

/** Well-formed, so that also strict JSON parsers can read it, wherever it was cut. */
const shorten = (text: string) => text.slice(0, MAX_TEXT_LENGTH).toWellFormed();
