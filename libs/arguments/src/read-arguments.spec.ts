import { readArguments } from './read-arguments';

const read = (...args: string[]) => readArguments('usage: …', { args, options: { all: { type: 'boolean' } } });

describe('readArguments', () => {
  afterEach(() => jest.restoreAllMocks());

  it('reads what the program knows, and refuses anything else with the usage', () => {
    expect({ ...read('--all').values }).toEqual({ all: true });
    for (const unknown of ['--nothing', 'nothing', '--all=1']) expect(() => read(unknown)).toThrow(/^usage: …$/);
  });

  it.each(['all', 'dry-run'])('refuses --%s that npm has kept for itself', (option) => {
    const variable = `npm_config_${option.replace('-', '_')}`;
    process.env[variable] = 'true';
    try {
      expect(() => read()).toThrow(`npm kept --${option} for itself: write -- before it\nusage: …`);
      if (option === 'all') expect({ ...read('--all').values }).toEqual({ all: true }); // as with `all=true` in .npmrc
    } finally {
      delete process.env[variable];
    }
    expect(read().values).toEqual({});
  });

  it('prints the usage for --help, and ends with exit code 0', () => {
    const log = jest.spyOn(console, 'log').mockReturnValue();
    jest.spyOn(process, 'exit').mockImplementation((code) => {
      throw new Error(`exit ${code}`);
    });
    expect(() => read('--all', '--help')).toThrow('exit 0');
    expect(log.mock.calls).toEqual([['usage: …']]);
  });
});
