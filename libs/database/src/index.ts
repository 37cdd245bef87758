export { isLocked, isRetryable, isUnavailable } from './database-errors';
export { Database } from './database';
export { DatabaseModule } from './database.module';
export { type DirectConnection, directConnection } from './direct-connection';
export { endConnection } from './end-connection';
export { Batcher } from './batcher';
export { RowArrays } from './row-arrays';
export { SharedReads } from './shared-reads';
export { TableRows } from './table-rows';
