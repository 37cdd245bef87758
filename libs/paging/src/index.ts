export { PageCursor, type Slice } from './page-cursor';
export { PageQuery } from './page.query';
export { PagingModule } from './paging.module';
export { firstUuidOf, idsAfter, idsFrom, momentOf, newTimeId, timestampOf, toTimestamp } from './time-ids';
