/** Who calls: the verified facts of an access token. */
export interface Principal {
  readonly clientId: string;
  /** Owner of what this client creates and the only owner whose things it sees. */
  readonly tenantId: string;
  readonly scopes: ReadonlySet<string>;
}
