import { Module } from '@nestjs/common';
import { JobsModule } from '@platform/jobs';
import { ErasureStore } from './erasure-store';
import { ErasureService } from './erasure.service';
import { PrivacyController } from './privacy.controller';

/** Erasure on demand. Its job is enqueued here and run by workers. */
@Module({ imports: [JobsModule], controllers: [PrivacyController], providers: [ErasureService, ErasureStore] })
export class PrivacyModule {}
