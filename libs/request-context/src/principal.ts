/** Who calls: the verified facts of an access token. */
export interface Principal {
  readonly clientId: string;
  /** Owner of everything this client creates. The client sees only what this tenant owns. */
  readonly tenantId: string;
  readonly scopes: ReadonlySet<string>;
  /** `cnf.x5t#S256` of a certificate-bound token (RFC 8705 section 3.1): valid only with that certificate. */
  readonly boundTo?: string;
}

/** A client certificate, whose private key was proved in a TLS handshake with us or our proxy. */
export interface ClientCertificate {
  /** SHA-256 of the DER encoding, in base64url without padding: `x5t#S256` of RFC 8705. */
  readonly thumbprint: string;
  /** The subject's common name, where it has one. */
  readonly commonName?: string;
  /** The DNS names and URIs of its subject alternative names. */
  readonly alternativeNames: readonly string[];
}
