import { ServiceError } from '@platform/errors';

const MESSAGES = {
  certificate_missing: 'A client certificate is required',
  certificate_invalid: 'The client certificate is not valid',
};

/** A client that has not proved by a certificate who it is, where it has to. */
export class CertificateRefused extends ServiceError {
  /** @param headers of the response, beside the challenge that belongs to each 401 */
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
