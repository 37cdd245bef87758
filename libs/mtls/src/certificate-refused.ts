import { ServiceError } from '@platform/errors';

const MESSAGES = {
  certificate_missing: 'A client certificate is required',
  certificate_invalid: 'The client certificate is not valid',
};

/** A required client certificate is missing, or a certificate is invalid. */
export class CertificateRefused extends ServiceError {
  /** @param headers further response headers; the challenge that every 401 needs is added */
  constructor(
    readonly reason: keyof typeof MESSAGES,
    { cause, headers }: { cause?: unknown; headers?: Record<string, string> } = {},
  ) {
    super('UNAUTHORIZED', MESSAGES[reason], {
      headers: { 'WWW-Authenticate': 'Bearer realm="orders"', ...headers },
      cause,
    });
  }
}
