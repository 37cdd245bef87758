import type { INestApplication } from '@nestjs/common';
import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger';
import type { Config } from '@platform/config';

/** Serves `/openapi.json` (OpenAPI 3.1), and `/docs` to read and try it. */
export function serveOpenApi(app: INestApplication, config: Config): void {
  const description = new DocumentBuilder()
    .setOpenAPIVersion('3.1.0')
    .setTitle('Order A2A service')
    .setVersion('1')
    .setDescription('Orders from programs for programs. Every refusal has the shape of `Error`.')
    .addSecurity('oauth2', {
      type: 'oauth2',
      description: `Access tokens from ${config.oidc.issuer} for the audience ${config.oidc.audience}`,
      flows: {
        clientCredentials: {
          tokenUrl: `${config.oidc.issuer.replace(/\/$/, '')}/token`,
          scopes: { 'orders:read': 'Fetch and list orders', 'orders:write': 'Create orders' },
        },
      },
    })
    .build();
  const document = SwaggerModule.createDocument(app, description);
  SwaggerModule.setup('docs', app, document, { jsonDocumentUrl: 'openapi.json' });
}
