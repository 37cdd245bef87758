import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { readArguments } from '@platform/arguments';
import { ConfigModule, loadConfig } from '@platform/config';
import { RetentionModule } from './privacy/retention.module';
import { RetentionService } from './privacy/retention.service';
import { SERVICE_NAME } from './service-name';

const USAGE = 'usage: npm run retention [-- --dry-run]   (--dry-run: only counts)';

/** Deletes all expired rows once; with `--dry-run` it only counts them. */
async function main(): Promise<void> {
  const { values } = readArguments(USAGE, { options: { 'dry-run': { type: 'boolean', default: false } } });
  const isDryRun = values['dry-run'];
  const imports = [ConfigModule.forRoot(loadConfig(SERVICE_NAME))];
  const app = await NestFactory.createApplicationContext(
    { module: RetentionModule, imports },
    { logger: ['error', 'warn'] },
  );
  try {
    const retention = app.get(RetentionService);
    const counts = isDryRun ? await retention.count() : await retention.sweep();
    if (!counts) throw new Error('Another process is deleting at this moment; nothing more was done');
    for (const [table, count] of Object.entries(counts)) {
      console.log(`${table}: ${count} ${isDryRun ? 'would be deleted' : 'deleted'}`);
    }
  } finally {
    await app.close();
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
