import type { INestApplication } from '@nestjs/common';
import { ApiProperty, ApiPropertyOptional, DocumentBuilder, getSchemaPath, SwaggerModule } from '@nestjs/swagger';
import { ACCESS_TOKEN_SCHEME } from '@platform/auth';
import type { Config } from '@platform/config';
import { ERROR_STATUS } from '@platform/errors';

class ErrorDetail {
  @ApiProperty({ example: 'items[0].sku' })
  readonly field: string;

  @ApiProperty({ example: 'sku should not be empty' })
  readonly message: string;
}

class ErrorFacts {
  @ApiProperty({ enum: Object.keys(ERROR_STATUS) })
  readonly code: string;

  @ApiProperty()
  readonly message: string;

  @ApiPropertyOptional({ type: [ErrorDetail] })
  readonly details?: ErrorDetail[];

  @ApiProperty({ description: 'The `X-Request-Id` of the request' })
  readonly correlationId: string;
}

class ErrorBody {
  @ApiProperty()
  readonly error: ErrorFacts;
}

/** Serves `/openapi.json` (OpenAPI 3.1), and `/docs` to read and try it. */
export function serveOpenApi(app: INestApplication, config: Config): void {
  const description = new DocumentBuilder()
    .setOpenAPIVersion('3.1.0')
    .setTitle('Order A2A service')
    .setVersion('1')
    .setDescription('Orders from programs for programs. Every refusal has the shape of `ErrorBody`.')
    .addBearerAuth(
      {
        type: 'http',
        scheme: 'bearer',
        bearerFormat: 'JWT',
        description: `An access token from ${config.oidc.issuer} for the audience ${config.oidc.audience}`,
      },
      ACCESS_TOKEN_SCHEME,
    )
    .build();
  const document = SwaggerModule.createDocument(app, description, { extraModels: [ErrorBody] });
  const text = { schema: { type: 'string' as const } };
  const rateLimit = {
    'RateLimit-Policy': { ...text, description: 'Calls (`q`) in a window of seconds (`w`): `"client";q=6000;w=60`' },
    RateLimit: {
      ...text,
      description: 'Calls that remain (`r`), whole again in seconds (`t`): `"client";r=5999;t=60`',
    },
  };
  const retryAfter = { 'Retry-After': { ...text, description: 'Seconds until a call is let through again' } };
  const refusal = { content: { 'application/json': { schema: { $ref: getSchemaPath(ErrorBody) } } } };
  for (const path of Object.values(document.paths)) {
    for (const operation of [path.get, path.post]) {
      if (!operation) continue;
      if (operation.security) {
        operation.responses['429'] = {
          description: 'The client is over its limit of calls',
          headers: { ...rateLimit, ...retryAfter },
          ...refusal,
        };
      }
      operation.responses['4XX'] = { description: 'The request was refused', ...refusal };
      operation.responses['5XX'] = { description: 'The service failed or cannot answer now', ...refusal };
    }
  }
  SwaggerModule.setup('docs', app, document, { jsonDocumentUrl: 'openapi.json' });
}
