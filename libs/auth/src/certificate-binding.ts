import type { ClientCertificate, Principal } from '@platform/request-context';
import { InvalidToken } from './invalid-token';

/**
 * That a token comes with the certificate that it is bound to (RFC 8705 section 3). Asked for each request, and whatever
 * `MTLS_MODE` is: where no certificate is looked at a bound token is good for nothing, or off would undo the binding.
 * @param rules `namesClient`: a certificate, if there is one, must have the client's id for its common name, or among its
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
