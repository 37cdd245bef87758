const { default: Sequencer } = require('@jest/test-sequencer');

/** Measures what the service keeps of its peak, for which it needs the processor. */
const LAST = /overload\.fault-spec\.ts$/;

/** Begins that test last: of the whole suite at most the end of a short file runs beside it. */
module.exports = class extends Sequencer {
  sort(tests) {
    const sorted = super.sort(tests);
    return [...sorted.filter(({ path }) => !LAST.test(path)), ...sorted.filter(({ path }) => LAST.test(path))];
  }
};
