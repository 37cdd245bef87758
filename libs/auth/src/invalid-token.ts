import { ServiceError } from '@platform/errors';

/** Why a call was not authenticated or not allowed: the label of `auth_failures_total`. */
export type AuthFailureReason =
  | 'missing'
  | 'malformed'
  | 'algorithm'
  | 'unknown_key'
  | 'signature'
  | 'issuer'
  | 'audience'
  | 'expired'
  | 'not_yet_valid'
  | 'claims'
  | 'token_type'
  | 'insufficient_scope';

/** An access token that must not be accepted (RFC 6750 section 3.1, `invalid_token`). */
export class InvalidToken extends ServiceError {
  constructor(
    readonly reason: AuthFailureReason,
    cause?: unknown,
  ) {
    super('INVALID_TOKEN', 'Access token is invalid or expired', {
      headers: {
        'WWW-Authenticate': 'Bearer error="invalid_token", error_description="The access token is invalid or expired"',
      },
      cause,
    });
  }
}
