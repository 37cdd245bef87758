import { Module } from '@nestjs/common';
import { JobQueue } from '@platform/jobs';
import { ErasureStore } from './erasure-store';
import { ErasureService } from './erasure.service';
import { PrivacyController } from './privacy.controller';

/** Erasure on demand. Its job is enqueued here and run by workers, so there is a queue here and no runner. */
@Module({ controllers: [PrivacyController], providers: [ErasureService, ErasureStore, JobQueue] })
export class PrivacyModule {}
