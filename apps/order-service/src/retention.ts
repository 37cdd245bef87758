import 'reflect-metadata';
import { parseArgs } from 'node:util';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ConfigModule, loadConfig } from '@platform/config';
import { RetentionModule } from './privacy/retention.module';
import { RetentionService } from './privacy/retention.service';
import { SERVICE_NAME } from './service-name';

@Module({})
class RetentionProgram {}

/** Deletes all expired rows once; with `--dry-run` it only counts them. */
async function main(): Promise<void> {
  const { values } = parseArgs({ options: { 'dry-run': { type: 'boolean', default: false } } });
  const imports = [ConfigModule.forRoot(loadConfig(SERVICE_NAME)), RetentionModule];
  const app = await NestFactory.createApplicationContext(
    { module: RetentionProgram, imports },
    { logger: ['error', 'warn'] },
  );
  try {
    const retention = app.get(RetentionService, { strict: false });
    const counts = values['dry-run'] ? await retention.count() : await retention.sweep();
    if (!counts) throw new Error('Another process is deleting at this moment; nothing more was done');
    for (const [table, count] of Object.entries(counts)) {
      console.log(`${table}: ${count} ${values['dry-run'] ? 'would be deleted' : 'deleted'}`);
    }
  } finally {
    await app.close();
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
