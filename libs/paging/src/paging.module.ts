import { Module } from '@nestjs/common';
import { PageCursor } from './page-cursor';

@Module({ providers: [PageCursor], exports: [PageCursor] })
export class PagingModule {}
