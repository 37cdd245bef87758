import { Module } from '@nestjs/common';
import { JobsModule } from '@platform/jobs';
import { DeadLetterEraser } from './dead-letter-eraser';
import { ErasureStore } from './erasure-store';

/** What of an erasure is left to workers. */
@Module({ imports: [JobsModule], providers: [DeadLetterEraser, ErasureStore] })
export class ErasureWorkerModule {}
