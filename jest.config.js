const { readFileSync } = require('node:fs');
const { compilerOptions } = JSON.parse(readFileSync(`${__dirname}/tsconfig.json`, 'utf8'));
const swc = JSON.parse(readFileSync(`${__dirname}/.swcrc`, 'utf8'));

const project = {
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/.sandbox/'],
  transform: {
    // swc resolves the aliases, so that they work in the global set-up too.
    '\\.ts$': ['@swc/jest', { ...swc, jsc: { ...swc.jsc, baseUrl: __dirname, paths: compilerOptions.paths } }],
  },
};

/** @type {import('jest').Config} */
module.exports = {
  projects: [
    { ...project, displayName: 'unit', testMatch: ['<rootDir>/{apps,libs}/**/*.spec.ts'] },
    {
      ...project,
      displayName: 'system',
      testMatch: ['<rootDir>/test/**/*.{e2e,fault}-spec.ts'],
      // Starts PostgreSQL, Kafka and the others, when one of these tests is to run.
      globalSetup: '<rootDir>/test/support/global-setup.ts',
      globalTeardown: '<rootDir>/test/support/global-teardown.ts',
    },
  ],
  testSequencer: '<rootDir>/test/support/test-sequencer.js',
  maxWorkers: 3, // on two cores: each often waits for a program to start, or for time to pass
  // Longer than `until` waits for one thing, so that what does not happen fails with its own error.
  testTimeout: 300_000,
  coverageProvider: 'v8',
  coverageReporters: ['text-summary', 'html'],
  collectCoverageFrom: ['{apps,libs}/*/src/**/*.ts', '!**/*.spec.ts'],
};
