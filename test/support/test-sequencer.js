const { default: Sequencer } = require('@jest/test-sequencer');

/** Measures throughput under overload, for which it needs the CPU. */
const LAST = /overload\.fault-spec\.ts$/;

/** Starts that test last, so that at most the end of one short test file runs beside it. */
module.exports = class extends Sequencer {
  sort(tests) {
    const sorted = super.sort(tests);
    return [...sorted.filter(({ path }) => !LAST.test(path)), ...sorted.filter(({ path }) => LAST.test(path))];
  }
};
