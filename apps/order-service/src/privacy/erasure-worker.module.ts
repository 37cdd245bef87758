import { Module } from '@nestjs/common';
import { JobsModule } from '@platform/jobs';
import { DeadLetterEraser } from './dead-letter-eraser';

/** What of an erasure is left to workers. */
@Module({ imports: [JobsModule], providers: [DeadLetterEraser] })
export class ErasureWorkerModule {}
