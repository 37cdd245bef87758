import { Module } from '@nestjs/common';
import { JobsModule } from '@platform/jobs';
import { DeadLetterEraser } from './dead-letter-eraser';

/** The part of an erasure that workers do. */
@Module({ imports: [JobsModule], providers: [DeadLetterEraser] })
export class ErasureWorkerModule {}
