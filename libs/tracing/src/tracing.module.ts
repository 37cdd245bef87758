import { Global, Module } from '@nestjs/common';
import { Spans } from './spans';

@Global()
@Module({ providers: [Spans], exports: [Spans] })
export class TracingModule {}
