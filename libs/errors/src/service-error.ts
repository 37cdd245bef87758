import { ERROR_STATUS, type ErrorCode } from './error-code';

/** One thing that is wrong: where (`items[0].sku`), and what. */
export interface ErrorDetail {
  readonly field: string;
  readonly message: string;
}

/** A client that got this many things wrong does not read on. */
const MAX_DETAILS = 100;
/** Characters of a path or a message, which can hold what the client called a field. */
const MAX_TEXT_LENGTH = 512;

interface ServiceErrorOptions {
  readonly details?: readonly ErrorDetail[];
  /** Response headers that belong to the refusal, for example `WWW-Authenticate`. */
  readonly headers?: Readonly<Record<string, string>>;
  /** What went wrong underneath. It is logged and never shown. */
  readonly cause?: unknown;
}

/** The one way to refuse or fail a request on purpose. The message is shown to the client: no secrets, no values. */
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
      field: field.slice(0, MAX_TEXT_LENGTH),
      message: message.slice(0, MAX_TEXT_LENGTH),
    }));
    this.headers = options.headers ?? {};
  }

  get status(): number {
    return ERROR_STATUS[this.code];
  }

  /** A dependency is away. A client may try again soon. */
  static unavailable(cause: unknown): ServiceError {
    return new ServiceError('SERVICE_UNAVAILABLE', 'The service cannot answer right now; try again', {
      headers: { 'Retry-After': '1' },
      cause,
    });
  }

  /** Whether a dependency is away, so that the same may succeed soon. */
  static isUnavailable(error: unknown): boolean {
    return error instanceof ServiceError && error.code === 'SERVICE_UNAVAILABLE';
  }
}
