export { PageCursor, type Slice } from './page-cursor';
export { PageLinks } from './page-links';
export { PageQuery } from './page.query';
export { PagingModule } from './paging.module';
