/** Who calls: the verified facts of an access token. */
export interface Principal {
  readonly clientId: string;
  /** Owner of what this client creates and the only owner whose things it sees. */
  readonly tenantId: string;
  readonly scopes: ReadonlySet<string>;
  /** `cnf.x5t#S256` of a certificate-bound token (RFC 8705 section 3.1): it is good only with that certificate. */
  readonly boundTo?: string;
}

/** The certificate with which a client has proved that it holds the key, in a TLS handshake with us or our proxy. */
export interface ClientCertificate {
  /** SHA-256 of the DER encoding, as base64url without padding: the `x5t#S256` of RFC 8705. */
  readonly thumbprint: string;
  /** The subject's common name, where it has one. */
  readonly commonName?: string;
  /** The DNS names and URIs of its subject alternative names. */
  readonly alternativeNames: readonly string[];
}
