const { default: Sequencer } = require('@jest/test-sequencer');

/** Needs the processor to itself: it measures what the service keeps of its peak. */
const ALONE = /overload\.fault-spec\.ts$/;

/** Runs that test last, when nothing else is left to run beside it. */
module.exports = class extends Sequencer {
  sort(tests) {
    const sorted = super.sort(tests);
    return [...sorted.filter(({ path }) => !ALONE.test(path)), ...sorted.filter(({ path }) => ALONE.test(path))];
  }
};
