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
  | 'insufficient_scope'
  | 'certificate_missing'
  | 'certificate_invalid'
  | 'certificate_binding'
  | 'certificate_name';

/** If the token itself is valid, its client needs to know what else was wrong. */
const DESCRIPTIONS: Partial<Record<AuthFailureReason, string>> = {
  certificate_binding: 'The access token is bound to a client certificate that did not come with it',
  certificate_name: 'The client certificate does not name the client of the access token',
};

/** An access token that must not be accepted (RFC 6750 section 3.1, `invalid_token`). */
export class InvalidToken extends ServiceError {
  constructor(
    readonly reason: AuthFailureReason,
    cause?: unknown,
  ) {
    const description = DESCRIPTIONS[reason] ?? 'The access token is invalid or expired';
    super('INVALID_TOKEN', DESCRIPTIONS[reason] ?? 'Access token is invalid or expired', {
      headers: { 'WWW-Authenticate': `Bearer error="invalid_token", error_description="${description}"` },
      cause,
    });
  }
}
