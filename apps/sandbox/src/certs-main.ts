import path from 'node:path';
import { readArguments } from '@platform/arguments';
import { certificateFiles, writeCertificates } from './certificates';
import { CLIENTS, readSettings } from './settings';

const USAGE = `usage: npm run certs -- [--dir DIRECTORY] [--new-ca]

  --dir      where to write, instead of .sandbox/certs
  --new-ca   replaces the CA too; without it an existing CA is kept`;

async function main(): Promise<void> {
  const { values } = readArguments(USAGE, {
    options: { dir: { type: 'string' }, 'new-ca': { type: 'boolean', default: false } },
  });
  const { dir, 'new-ca': withNewAuthority } = values;
  const settings = readSettings();
  const directory = dir === undefined ? settings.certsDir : path.resolve(dir);
  await writeCertificates(directory, { withNewAuthority });
  const relative = path.relative('.', directory);
  console.log(usageOf(relative.startsWith('..') ? directory : relative, settings));
}

function usageOf(directory: string, { identityProviderTls, servicePort }: ReturnType<typeof readSettings>): string {
  const idp = `https://127.0.0.1:${identityProviderTls?.value ?? 4443}`;
  const [ca, server, client] = ['ca', 'server', 'order-orchestrator'].map((name) => certificateFiles(directory, name));
  return [
    `Written to ${directory}: a CA (ca), a server certificate for localhost, 127.0.0.1 and ::1 (server), and a`,
    `certificate for each client (${CLIENTS.map(({ id }) => id).join(', ')}): NAME.crt, and NAME.key for its owner alone.`,
    '',
    '  The service with TLS of its own, and client certificates:',
    '',
    `MTLS_MODE=required TLS_CERT_FILE='${server?.cert}' TLS_KEY_FILE='${server?.key}' TLS_CLIENT_CA_FILE='${ca?.cert}' npm start`,
    '',
    '  A token that is good only with the certificate of order-orchestrator, and a call with both:',
    '',
    `TOKEN=$(curl -s --cacert '${ca?.cert}' --cert '${client?.cert}' --key '${client?.key}' -d grant_type=client_credentials -d client_id=order-orchestrator ${idp}/token | sed -E 's/.*"access_token":"([^"]+)".*/\\1/')`,
    `curl -i --cacert '${ca?.cert}' --cert '${client?.cert}' --key '${client?.key}' -H "Authorization: Bearer $TOKEN" https://127.0.0.1:${servicePort.value}/v1/orders`,
  ].join('\n');
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
});
