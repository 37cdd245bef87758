import type { ClientCertificate, Principal } from '@platform/request-context';
import { InvalidToken } from './invalid-token';

/**
 * Checks that a token comes with the certificate it is bound to (RFC 8705 section 3): on every request and in every
 * `MTLS_MODE`, because `off`, which reads no certificate, must refuse bound tokens instead of undoing the binding.
 * @param rules `namesClient`: a certificate, if there is one, must have the client id as its common name or among its
 *   DNS names and URIs
 * @throws {InvalidToken}
 */
export function requireCertificate(
  { boundTo, clientId }: Principal,
  certificate: ClientCertificate | undefined,
  { namesClient }: { readonly namesClient: boolean },
): void {
  if (boundTo !== undefined && boundTo !== certificate?.thumbprint) throw new InvalidToken('certificate_binding');
  if (!namesClient || certificate === undefined) return;
  const { commonName, alternativeNames } = certificate;
  if (commonName !== clientId && !alternativeNames.includes(clientId)) throw new InvalidToken('certificate_name');
}
