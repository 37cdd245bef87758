const { default: Sequencer } = require('@jest/test-sequencer');

/** Fault tests are long however short their files are, and must not be left to the end. */
const FIRST = /\.fault-spec\.ts$/;

/**
 * Measures throughput under overload, for which it needs the CPU: at most the end of short test files runs beside it. V8
 * would take as much as a processor of it to make the heaps of idle workers smaller, hence `--no-memory-reducer` in
 * package.json.
 */
const LAST = /overload\.fault-spec\.ts$/;

const rank = ({ path }) => (LAST.test(path) ? 2 : FIRST.test(path) ? 0 : 1);

module.exports = class extends Sequencer {
  sort(tests) {
    return [...super.sort(tests)].sort((a, b) => rank(a) - rank(b));
  }
};
