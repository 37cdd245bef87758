import { Injectable, type OnModuleInit } from '@nestjs/common';
import { PATH_METADATA } from '@nestjs/common/constants';
import { DiscoveryService, MetadataScanner, Reflector } from '@nestjs/core';
import { ROUTE_ACCESS } from './route-access.decorators';

/** Fails the start if a route declares neither the scopes it needs nor that it is public. */
@Injectable()
export class RouteAccessCheck implements OnModuleInit {
  constructor(
    private readonly discovery: DiscoveryService,
    private readonly scanner: MetadataScanner,
    private readonly reflector: Reflector,
  ) {}

  onModuleInit(): void {
    const undeclared = this.discovery.getControllers().flatMap(({ metatype, name }) => {
      const prototype = (metatype as { prototype: Record<string, () => unknown> }).prototype;
      return this.scanner
        .getAllMethodNames(prototype)
        .filter((method) => Reflect.hasMetadata(PATH_METADATA, prototype[method] as object))
        .filter((method) => {
          const targets = [prototype[method] as () => unknown, metatype as () => unknown];
          return this.reflector.getAllAndOverride(ROUTE_ACCESS, targets) === undefined;
        })
        .map((method) => `${name}.${method}`);
    });
    if (undeclared.length > 0) {
      throw new Error(`These routes need @RequireScopes(…) or @Public(): ${undeclared.join(', ')}`);
    }
  }
}
