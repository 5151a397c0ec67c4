// SPDX-License-Identifier: Apache-2.0
// A new CA and a certificate that it signed for 127.0.0.1 and localhost, made by openssl and valid for one day.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** PEM texts. */
export interface Certificates {
  readonly ca: string;
  readonly key: string;
  readonly cert: string;
}

export function makeCertificates(): Certificates {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-tls-'));
  const openssl = (...args: string[]): Buffer => execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  try {
    openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=ca of a test', '-days', '1');
    openssl('req', ...key, '-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=api');
    writeFileSync(join(folder, 'names'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
    const signed = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '1', '-extfile', 'names'];
    openssl('x509', '-req', '-in', 'server.csr', ...signed, '-out', 'server.pem');
    const [ca = '', serverKey = '', cert = ''] = ['ca.pem', 'server.key', 'server.pem'].map((file) =>
      readFileSync(join(folder, file), 'utf8'),
    );
    return { ca, key: serverKey, cert };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
