import type { RequestHandler } from 'express';

/** Combines middlewares into one: if they were registered separately, Express would match the path before each. */
export function chainMiddleware(handlers: readonly RequestHandler[]): RequestHandler {
  return (req, res, next) => {
    const call = (index: number, error?: unknown): void => {
      const handler = handlers[index];
      if (error !== undefined || !handler) return next(error);
      void handler(req, res, (fault?: unknown) => call(index + 1, fault));
    };
    call(0);
  };
}
