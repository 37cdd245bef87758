import type { INestApplication } from '@nestjs/common';
import {
  ApiProperty,
  ApiPropertyOptional,
  DocumentBuilder,
  getSchemaPath,
  type OpenAPIObject,
  SwaggerModule,
} from '@nestjs/swagger';
import { ACCESS_TOKEN_SCHEME } from '@platform/auth';
import type { Config } from '@platform/config';
import { ERROR_STATUS } from '@platform/errors';

class ErrorDetail {
  @ApiProperty({ example: 'items[0].sku' })
  readonly field: string;

  @ApiProperty({ example: 'sku should not be empty' })
  readonly message: string;
}

/** Not an `enum`: codes may be added within an API version, and clients generated before that must accept them. */
const CODE = {
  type: String,
  description: 'Further codes may be added',
  'x-extensible-enum': Object.keys(ERROR_STATUS),
};

class ErrorFacts {
  @ApiProperty(CODE)
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

/** The same error as RFC 9457 problem details, for `Accept: application/problem+json`. */
class Problem {
  @ApiProperty({ format: 'uri-reference' })
  readonly type: string;

  @ApiProperty()
  readonly title: string;

  @ApiProperty({ type: 'integer', minimum: 400, maximum: 599 })
  readonly status: number;

  @ApiProperty()
  readonly detail: string;

  @ApiProperty()
  readonly instance: string;

  @ApiProperty(CODE)
  readonly code: string;

  @ApiPropertyOptional({ type: [ErrorDetail] })
  readonly errors?: ErrorDetail[];

  @ApiProperty({ description: 'The `X-Request-Id` of the request' })
  readonly correlationId: string;
}

/** Serves `/openapi.json` (OpenAPI 3.1), and `/docs` to read and try it. */
export function serveOpenApi(app: INestApplication, config: Config): void {
  const description = new DocumentBuilder()
    .setOpenAPIVersion('3.1.0')
    .setTitle('Order A2A service')
    .setVersion('1')
    .setDescription(
      'Orders, from one service to another. Every error has the shape of `ErrorBody`, or of `Problem` (RFC 9457) if you ' +
        'send `Accept: application/problem+json`.',
    )
    .addServer('/')
    .addTag('orders', 'Create, read and cancel orders')
    .addTag('privacy', 'Erase the personal data of customers')
    .addTag('audit', 'Read the audit trail of your tenant')
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
  const document = SwaggerModule.createDocument(app, description, { extraModels: [ErrorBody, Problem] });
  for (const operation of operationsOf(document)) describeRefusals(operation);
  setAdditionalProperties(document);
  SwaggerModule.setup('docs', app, document, { jsonDocumentUrl: 'openapi.json', raw: ['json'] });
}

type OperationObject = NonNullable<OpenAPIObject['paths'][string]['get']>;

const METHODS = ['get', 'put', 'post', 'patch', 'delete'] as const;

const operationsOf = ({ paths }: OpenAPIObject): OperationObject[] =>
  Object.values(paths).flatMap((path) => METHODS.flatMap((method) => path[method] ?? []));

const text = (description: string) => ({ description, schema: { type: 'string' as const } });
const REQUEST_ID = { 'X-Request-Id': text('The `X-Request-Id` of the request, or a generated one') };
const RATE_LIMIT = {
  'RateLimit-Policy': text('Quota of calls (`q`) in a window of `w` seconds: `"client";q=6000;w=60`'),
  RateLimit: text('Calls that remain (`r`), and seconds until the quota is full again (`t`): `"client";r=5999;t=60`'),
};
const RETRY_AFTER = { 'Retry-After': text('Seconds to wait before the next attempt') };
const AUTHENTICATE = { 'WWW-Authenticate': text('What is wrong with the token (RFC 6750)') };

/** Adds the errors that every route may answer with. A route itself describes only errors specific to it. */
function describeRefusals(operation: OperationObject): void {
  // Not `Problem`, which only clients that ask for it get: generated clients expect one type for each status.
  const refusal = (description: string, headers: object = {}) => ({
    description,
    headers: { ...REQUEST_ID, ...headers },
    content: { 'application/json': { schema: { $ref: getSchemaPath(ErrorBody) } } },
  });
  const { responses } = operation;
  for (const [status, response] of Object.entries(responses)) {
    if (!response || '$ref' in response) continue;
    if (status.startsWith('4')) responses[status] = refusal(response.description);
    else response.headers = { ...response.headers, ...REQUEST_ID, ...(operation.security && RATE_LIMIT) };
  }
  responses['400'] = refusal('A field, a parameter or a header is missing or invalid');
  if (operation.requestBody) {
    responses['413'] = refusal('The body is larger than 256 KiB, measured uncompressed');
    responses['415'] = refusal('The body is not `application/json` in UTF-8, or compressed in an unknown way');
  }
  if (operation.security) {
    responses['401'] = refusal(
      'The access token, or a required client certificate, is missing or invalid',
      AUTHENTICATE,
    );
    responses['403'] = refusal('The token lacks a scope that the operation requires', AUTHENTICATE);
    responses['429'] = refusal('The client has used up its quota, or too many bad tokens came from its address', {
      ...RATE_LIMIT,
      ...RETRY_AFTER,
    });
  }
  responses['503'] = refusal('A dependency is unavailable, or the service is overloaded', RETRY_AFTER);
  responses['4XX'] = refusal('The request was refused for another reason');
  responses['5XX'] = refusal('The service failed');
}

/**
 * Sets `additionalProperties`: false in schemas of requests, where unknown fields are refused; true in those of
 * responses, which may gain fields. The latter is explicit because some generators take its absence for false.
 */
function setAdditionalProperties(document: OpenAPIObject): void {
  const schemas = Object.entries(document.components?.schemas ?? {});
  const ofRequests = new Set<string>();
  const close = (name: string) => {
    if (ofRequests.has(name)) return;
    ofRequests.add(name);
    referencesIn(document.components?.schemas?.[name]).forEach(close);
  };
  for (const { requestBody } of operationsOf(document)) referencesIn(requestBody).forEach(close);
  for (const [name, schema] of schemas) {
    if ('properties' in schema) schema.additionalProperties = !ofRequests.has(name);
  }
}

/** The names of the schemas that a part of the document references. */
const referencesIn = (description: unknown) =>
  [...(JSON.stringify(description) ?? '').matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(([, name]) => name ?? '');
