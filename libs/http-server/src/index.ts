export { chainMiddleware } from './chain.middleware';
export { trackConnections } from './connections';
export { HttpAdapter } from './http-adapter';
export { docsSurface, httpSurface } from './http-surface.middleware';
export { JsonBodyGuard } from './json-body.guard';
export { shedLoad } from './load-shedding';
