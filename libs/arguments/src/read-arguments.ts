import { parseArgs, type ParseArgsConfig } from 'node:util';

/**
 * What a program was called with. `--help` prints the usage, and ends the process.
 * @throws {Error} the usage, when an argument is not among those of `config`
 */
export function readArguments<T extends ParseArgsConfig>(usage: string, config: T): ReturnType<typeof parseArgs<T>> {
  const { args = process.argv.slice(2) } = config;
  if (args.includes('--help')) {
    console.log(usage);
    process.exit(0);
  }
  try {
    return parseArgs(config);
  } catch (error) {
    throw new Error(usage, { cause: error });
  }
}
