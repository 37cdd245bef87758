import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { CertificateAuthority, type IssuedCertificate } from './certificate-authority';
import { CLIENTS } from './settings';

/** Paths of a holder's certificate and private key. */
export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

/** @param holder `ca`, `server` or the id of a client */
export function certificateFiles(directory: string, holder: string): CertificateFiles {
  return { cert: path.join(directory, `${holder}.crt`), key: path.join(directory, `${holder}.key`) };
}

/**
 * Writes a CA, a certificate for servers on this machine, and one for each client of the sandbox. All but the CA are
 * issued anew each time, so that none expires unnoticed.
 * @param withNewAuthority replaces an existing CA: certificates that it has issued are not trusted any more
 */
export async function writeCertificates(directory: string, { withNewAuthority = false } = {}): Promise<void> {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const authority = await loadOrCreateAuthority(certificateFiles(directory, 'ca'), withNewAuthority);
  const server = await authority.issue({
    commonName: 'localhost',
    usage: 'server',
    alternativeNames: [
      { type: 'dns', value: 'localhost' },
      { type: 'ip', value: '127.0.0.1' },
      { type: 'ip', value: '::1' },
    ],
  });
  write(certificateFiles(directory, 'server'), server);
  for (const { id } of CLIENTS) {
    const client = await authority.issue({
      commonName: id,
      usage: 'client',
      alternativeNames: [{ type: 'dns', value: id }],
    });
    write(certificateFiles(directory, id), client);
  }
}

async function loadOrCreateAuthority(
  files: CertificateFiles,
  withNewAuthority: boolean,
): Promise<CertificateAuthority> {
  if (!withNewAuthority && existsSync(files.cert) && existsSync(files.key)) {
    return CertificateAuthority.fromPem({
      cert: readFileSync(files.cert, 'utf8'),
      key: readFileSync(files.key, 'utf8'),
    });
  }
  const authority = await CertificateAuthority.create('Sandbox CA, not for production');
  write(files, authority.pem);
  return authority;
}

function write(files: CertificateFiles, { cert, key }: IssuedCertificate): void {
  replace(files.key, key);
  replace(files.cert, cert);
}

/** A concurrent reader sees the old file or the new one, never a part. */
function replace(file: string, content: string): void {
  const next = `${file}.next`;
  writeFileSync(next, content, { mode: 0o600 });
  renameSync(next, file);
}
