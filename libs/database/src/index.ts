export { Database } from './database';
export { DatabaseModule } from './database.module';
export { isUnavailable, isRetryable } from './database-errors';
export { directConnection } from './direct-connection';
