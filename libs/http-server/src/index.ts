export { trackConnections } from './connections';
export { HttpAdapter } from './http-adapter';
export { docsSurface, httpSurface } from './http-surface.middleware';
export { inTurn } from './in-turn.middleware';
export { JsonBodyGuard } from './json-body.guard';
export { shedLoad } from './load-shedding';
