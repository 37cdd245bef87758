import eslint from '@eslint/js';
import { defineConfig, globalIgnores } from 'eslint/config';
import globals from 'globals';
import tseslint from 'typescript-eslint';

const TESTS = ['test/**', '**/*.spec.ts'];

/** The files that may know HTTP: what Nest calls around a handler, and what puts the application together. */
const HTTP_EDGE = [
  '**/*.{controller,guard,filter,interceptor,middleware,pipe,strategy,decorator}.ts',
  'apps/*/src/{main,create-app,openapi}.ts',
  '**/{http-adapter,http-telemetry,client-error,error-response,order.view}.ts',
];

const ENV_MESSAGE = 'Add the setting to libs/config and inject CONFIG: only libs/config reads the environment.';
const HTTP_MESSAGE = 'Only the HTTP edge knows HTTP: throw a ServiceError here, and leave the rest to the controller.';

const EXCEPTION_MESSAGE =
  "Throw a ServiceError: its code is what the client is promised. Nest's exceptions are answered with 500.";

const NEVER_IMPORTED = {
  patterns: [{ regex: '^@nestjs/common$', importNamePattern: 'Exception$', message: EXCEPTION_MESSAGE }],
  paths: [
    {
      name: '@nestjs/common',
      importNames: ['forwardRef'],
      message: 'Two classes that need each other are one, or a third is missing: split so that one side depends.',
    },
    ...['node:process', 'process'].map((name) => ({ name, importNames: ['env'], message: ENV_MESSAGE })),
  ],
};

const NEVER_IMPORTED_BEHIND_THE_EDGE = {
  paths: [
    ...NEVER_IMPORTED.paths,
    ...['express', 'express-serve-static-core', '@nestjs/platform-express'].map((name) => ({
      name,
      message: HTTP_MESSAGE,
    })),
  ],
  patterns: [
    ...NEVER_IMPORTED.patterns,
    {
      // Not Controller: an event consumer is one too.
      regex: '^@nestjs/common$',
      importNamePattern:
        '^Http|^(Get|Post|Put|Patch|Delete|Req|Request|Res|Response|Headers?|Redirect|StreamableFile)$',
      message: HTTP_MESSAGE,
    },
  ],
};

export default defineConfig(
  // node_modules is ignored by default.
  globalIgnores(['dist/', 'coverage/', '.sandbox/']),
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  eslint.configs.recommended,
  { files: ['**/*.{js,cjs,mjs}'], languageOptions: { globals: globals.node } },
  { files: ['**/*.{js,cjs}'], languageOptions: { sourceType: 'commonjs' } },
  // k6 runs these, not Node.
  {
    files: ['test/load/*.js'],
    languageOptions: { sourceType: 'module', globals: { __ENV: 'readonly', crypto: 'readonly' } },
  },
  {
    files: ['{apps,libs,test}/**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      'no-restricted-imports': ['error', NEVER_IMPORTED],
      // To leave a property out with `{ links, ...rest }` is to use it; the compiler says so too.
      '@typescript-eslint/no-unused-vars': ['error', { ignoreRestSiblings: true }],
      // async also makes a throw a rejection, and fits a signature that asks for a promise.
      '@typescript-eslint/require-await': 'off',
      // Made to be printed, though the rule sees an object.
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        {
          allow: [
            { from: 'package', package: 'node', name: ['URL', 'URLSearchParams'] },
            { from: 'lib', name: ['Error'] },
          ],
        },
      ],
      // A name says the duty; these say only "something more". File names: .dependency-cruiser.cjs.
      '@typescript-eslint/naming-convention': [
        'error',
        {
          selector: 'typeLike',
          format: null,
          custom: { regex: '^I[A-Z][a-z]|^Base[A-Z]|(Helper|Util|Manager)s?$', match: false },
        },
      ],
    },
  },
  {
    files: ['{apps,libs}/**/*.ts'],
    rules: {
      // A name that is the same everywhere can be found, and a lib's surface can be read in its index.
      'no-restricted-syntax': [
        'error',
        { selector: 'ExportDefaultDeclaration', message: 'Export by name.' },
        { selector: 'ExportSpecifier[exported.name="default"]', message: 'Export by name.' },
        { selector: 'ExportAllDeclaration', message: 'List what is exported.' },
        {
          selector: 'NewExpression[callee.name="DataSource"]',
          message: 'Reach PostgreSQL through Database: other connections have no tenant wall.',
        },
      ],
    },
  },
  {
    // What answers when Nest throws, and Terminus's answer of a probe.
    files: ['libs/errors/src/error.filter.ts', 'libs/health/src/health.controller.ts', ...TESTS],
    rules: { 'no-restricted-imports': ['error', { paths: NEVER_IMPORTED.paths }] },
  },
  {
    files: ['{apps,libs}/**/*.ts'],
    ignores: [...HTTP_EDGE, 'apps/sandbox/**', ...TESTS],
    rules: { 'no-restricted-imports': ['error', NEVER_IMPORTED_BEHIND_THE_EDGE] },
  },
  {
    files: ['{apps,libs}/**/*.ts'],
    ignores: ['libs/auth/src/fetch-jwks.ts', 'apps/sandbox/**', ...TESTS],
    rules: {
      'no-restricted-globals': [
        'error',
        { name: 'fetch', message: 'Call others with an OutboundClient: it has a deadline, retries and a circuit.' },
      ],
    },
  },
  {
    // `libs/arguments` looks for options that npm kept for itself.
    ignores: ['libs/{config,arguments}/src/**', 'apps/sandbox/src/settings.ts', 'test/**', 'docs/**', '**/*.config.*'],
    rules: {
      'no-restricted-properties': ['error', { object: 'process', property: 'env', message: ENV_MESSAGE }],
    },
  },
  {
    files: TESTS,
    rules: {
      // Tests read into bodies of many shapes; a wrong read is a failing test.
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
    },
  },
);
