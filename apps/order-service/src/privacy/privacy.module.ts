import { Module } from '@nestjs/common';
import { JobQueueModule } from '@platform/jobs';
import { ErasureStore } from './erasure-store';
import { ErasureService } from './erasure.service';
import { PrivacyController } from './privacy.controller';

/** Erasure on demand. Its job is enqueued here and run by workers. */
@Module({ imports: [JobQueueModule], controllers: [PrivacyController], providers: [ErasureService, ErasureStore] })
export class PrivacyModule {}
