import { readArguments } from './read-arguments';

const read = (...args: string[]) => readArguments('usage: …', { args, options: { all: { type: 'boolean' } } });

describe('readArguments', () => {
  afterEach(() => jest.restoreAllMocks());

  it('reads what the program knows, and refuses anything else with the usage', () => {
    expect({ ...read('--all').values }).toEqual({ all: true });
    for (const unknown of ['--nothing', 'nothing', '--all=1']) expect(() => read(unknown)).toThrow(/^usage: …$/);
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
