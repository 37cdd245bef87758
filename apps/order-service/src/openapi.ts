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

/** Not an `enum`: more are added within a version, and a client that was generated before must take them. */
const CODE = {
  type: String,
  description: 'Others may be added',
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

/** The same facts as RFC 9457 has them, for `Accept: application/problem+json`. */
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
      'Orders from programs for programs. Every refusal has the shape of `ErrorBody`, or of `Problem` if you send ' +
        '`Accept: application/problem+json`.',
    )
    .addServer('/')
    .addTag('orders', 'To create, follow and cancel orders')
    .addTag('privacy', 'To forget a customer')
    .addTag('audit', 'What clients did and were refused, and what the service did')
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
  closeRequestsAndOpenAnswers(document);
  SwaggerModule.setup('docs', app, document, { jsonDocumentUrl: 'openapi.json', raw: ['json'] });
}

type OperationObject = NonNullable<OpenAPIObject['paths'][string]['get']>;

const METHODS = ['get', 'put', 'post', 'patch', 'delete'] as const;

const operationsOf = ({ paths }: OpenAPIObject): OperationObject[] =>
  Object.values(paths).flatMap((path) => METHODS.flatMap((method) => path[method] ?? []));

const text = (description: string) => ({ description, schema: { type: 'string' as const } });
const REQUEST_ID = { 'X-Request-Id': text('That of the request, or one that was made for it') };
const RATE_LIMIT = {
  'RateLimit-Policy': text('Calls (`q`) in a window of seconds (`w`): `"client";q=6000;w=60`'),
  RateLimit: text('Calls that remain (`r`), whole again in seconds (`t`): `"client";r=5999;t=60`'),
};
const RETRY_AFTER = { 'Retry-After': text('Seconds until a call may be let through again') };
const AUTHENTICATE = { 'WWW-Authenticate': text('What is wrong with the token, as RFC 6750 says it') };

/** What every route may answer instead of what it wants to; a route itself describes what it alone refuses. */
function describeRefusals(operation: OperationObject): void {
  // Generated clients read one type for each status, and the problem is only for those who ask for it.
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
  responses['400'] = refusal('A field, a parameter or a header is missing or wrong');
  if (operation.requestBody) {
    responses['413'] = refusal('The body is longer than 256 KiB');
    responses['415'] = refusal('The body is not `application/json` in UTF-8');
  }
  if (operation.security) {
    responses['401'] = refusal('No token, or not a good one', AUTHENTICATE);
    responses['403'] = refusal('The token lacks the scope', AUTHENTICATE);
    responses['429'] = refusal('The client is over its limit of calls', { ...RATE_LIMIT, ...RETRY_AFTER });
  }
  responses['503'] = refusal('A dependency is down, or too much is asked at once', RETRY_AFTER);
  responses['4XX'] = refusal('The request was refused for another reason');
  responses['5XX'] = refusal('The service failed');
}

/**
 * Fields that a request may not have are refused, so its schemas are closed. Those of answers may gain fields, which is said
 * aloud because some generators take silence for a no.
 */
function closeRequestsAndOpenAnswers(document: OpenAPIObject): void {
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

/** The names of the schemas that are referred to. */
const referencesIn = (description: unknown) =>
  [...(JSON.stringify(description) ?? '').matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(([, name]) => name ?? '');
