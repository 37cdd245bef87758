/** From the bottom to the top: a lib imports only what stands before it. A new lib takes its place here. */
const LIBS = [
  'arguments',
  'config',
  'ids',
  'background',
  'request-context',
  'tracing',
  'errors',
  'validation',
  'rate-limit',
  'mtls',
  'auth',
  'observability',
  'http-server',
  'health',
  'resilience',
  'database',
  'paging',
  'audit',
  'idempotency',
  'kafka',
  'messaging',
  'jobs',
];

/** Packages that reach out of the process, and the libs through which all others do. */
const BEHIND_LIBS = [
  {
    packages: ['pg', 'pg-pool'],
    libs: ['database', 'jobs', 'messaging'],
    comment: 'Reach PostgreSQL through Database, or openDirectConnection: other connections have no tenant wall.',
  },
  {
    packages: ['kafkajs'],
    libs: ['kafka', 'messaging'],
    comment: 'Tell others through the outbox, and hear of them through EventConsumer: each event once, for its change.',
  },
  {
    packages: ['graphile-worker'],
    libs: ['jobs'],
    comment: 'Enqueue with JobQueue in the transaction of the cause, and run with JobRunner.',
  },
  {
    packages: ['undici', 'opossum'],
    libs: ['resilience'],
    comment: 'Call others with an OutboundClient: it has a deadline, retries, a circuit and a bulkhead.',
  },
];

const LIB_INDEX = '^libs/[^/]+/src/index\\.ts$';
const ENTRY_POINTS = [
  '^apps/[^/]+/src/([^/]+-)?main\\.ts$',
  '^apps/[^/]+/src/(topics|dlq|audit|retention|database/migrate)\\.ts$',
];

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    {
      name: 'libs-never-import-apps',
      comment: 'The platform serves the next service too. What it needs from an app, the app hands in.',
      severity: 'error',
      from: { path: '^libs/' },
      to: { path: '^apps/' },
    },
    {
      name: 'apps-never-import-each-other',
      comment: 'Apps are deployed apart. What two of them need is a lib.',
      severity: 'error',
      from: { path: '^apps/([^/]+)/' },
      to: { path: '^apps/', pathNot: '^apps/$1/' },
    },
    {
      name: 'only-tests-import-tests',
      severity: 'error',
      from: { pathNot: '^test/' },
      to: { path: '^test/' },
    },
    {
      name: 'features-meet-at-the-module',
      comment: 'A feature uses another through its exported service, so that the rest can change unseen.',
      severity: 'error',
      from: { path: '^apps/([^/]+)/src/([^/]+)/', pathNot: '^apps/[^/]+/src/database/' },
      to: {
        path: '^apps/$1/src/[^/]+/',
        pathNot: '^apps/$1/src/($2/|database/|[^/]+/[^/]+\\.(module|service)\\.ts$)',
      },
    },
    ...LIBS.map((lib, place) => ({
      name: `lib-order-${lib}`,
      comment: 'A lib imports only libs that stand below it: see LIBS in .dependency-cruiser.cjs.',
      severity: 'error',
      from: { path: `^libs/${lib}/` },
      to: { path: '^libs/', pathNot: `^libs/(${LIBS.slice(0, place + 1).join('|')})/` },
    })),
    {
      name: 'lib-has-a-place',
      comment: 'Give the lib its place in LIBS in .dependency-cruiser.cjs.',
      severity: 'error',
      from: {},
      to: { path: '^libs/', pathNot: `^libs/(${LIBS.join('|')})/` },
    },
    {
      name: 'lib-by-alias-only',
      comment: 'Import @platform/<lib>; what its index does not export is its own.',
      severity: 'error',
      from: { path: '^(apps|test)/' },
      to: { path: '^libs/', dependencyTypesNot: ['aliased-tsconfig-paths'] },
    },
    {
      name: 'lib-by-alias-only-among-libs',
      comment: 'Import @platform/<lib>; inside the lib itself, the relative path.',
      severity: 'error',
      from: { path: '^libs/([^/]+)/' },
      to: { path: '^libs/', pathNot: '^libs/$1/', dependencyTypesNot: ['aliased-tsconfig-paths'] },
    },
    {
      name: 'lib-not-through-its-own-index',
      comment: 'The index is for those outside; from within it makes circles.',
      severity: 'error',
      from: { path: '^libs/([^/]+)/' },
      to: { path: '^libs/$1/src/index\\.ts$' },
    },
    {
      name: 'one-index-per-lib',
      comment: 'No barrel below the index: it hides who uses what.',
      severity: 'error',
      from: { path: '^libs/.+/index\\.ts$', pathNot: LIB_INDEX },
      to: {},
    },
    ...BEHIND_LIBS.map(({ packages, libs, comment }) => ({
      name: `${packages[0]}-behind-its-lib`,
      comment,
      severity: 'error',
      from: { path: '^(apps|libs)/', pathNot: `^(libs/(${libs.join('|')})|apps/sandbox)/` },
      to: { path: packages.map((name) => `node_modules/(@types/)?${name}/`) },
    })),
    {
      name: 'name-says-the-duty',
      comment: 'No helper, util, manager, common or shared: a name says the duty. Class names: eslint.config.mjs.',
      severity: 'error',
      from: {},
      to: { path: ['[/.-](helper|util|manager)s?\\.ts$', '/(common|shared)/'], pathNot: 'node_modules/' },
    },
    {
      name: 'no-circular',
      comment: 'Files in a circle can only be understood, tested and loaded together.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'no-orphans',
      comment: 'Nobody but its own spec imports it: delete it, or name it in ENTRY_POINTS.',
      severity: 'error',
      from: { pathNot: '\\.spec\\.ts$' },
      module: {
        path: '^(apps|libs)/',
        pathNot: ['\\.d\\.ts$', '\\.spec\\.ts$', ...ENTRY_POINTS],
        numberOfDependentsLessThan: 1,
      },
    },
    {
      name: 'not-to-unresolvable',
      severity: 'error',
      from: {},
      // k6 has its modules in itself.
      to: { couldNotResolve: true, pathNot: '^k6(/|$)' },
    },
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    // Types count: an import of a type is knowledge of the other side just the same.
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
  },
};
