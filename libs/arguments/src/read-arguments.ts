import { parseArgs, type ParseArgsConfig } from 'node:util';

/**
 * Parses the command line. `--help` prints the usage, and ends the process.
 * @throws {Error} the usage, when an argument is not among those of `config`, or when npm kept one for itself
 */
export function readArguments<T extends ParseArgsConfig>(usage: string, config: T): ReturnType<typeof parseArgs<T>> {
  const { args = process.argv.slice(2) } = config;
  if (args.includes('--help')) {
    console.log(usage);
    process.exit(0);
  }
  const kept = ['dry-run', ...Object.keys(config.options ?? {})].find(
    (option) => isKeptByNpm(option) && !args.includes(`--${option}`),
  );
  if (kept !== undefined) throw new Error(`npm kept --${kept} for itself: write -- before it\n${usage}`);
  try {
    return parseArgs(config);
  } catch (error) {
    throw new Error(usage, { cause: error });
  }
}

/** Options before `--` are npm's own: the program is not given them, and would do something else than was asked for. */
const isKeptByNpm = (option: string) => process.env[`npm_config_${option.replaceAll('-', '_')}`] !== undefined;
