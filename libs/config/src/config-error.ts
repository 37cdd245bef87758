/** Thrown at start when the environment is invalid. Names every wrong variable, and never contains a value. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';

  /** @param faults one sentence per fault, each beginning with the variable's name */
  constructor(readonly faults: readonly string[]) {
    super(`The configuration is wrong:\n${faults.map((fault) => `  ${fault}`).join('\n')}`);
  }
}
