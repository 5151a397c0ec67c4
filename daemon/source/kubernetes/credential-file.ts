// SPDX-License-Identifier: Apache-2.0
// Files with credentials: tokens, certificates, keys. Each call reads the file again, because other programs replace it. No
// message contains the content of a file.
import { X509Certificate } from 'node:crypto';
import { readBoundedText } from '../../base/bounded-read.ts';
import { systemReason } from '../../base/reasons.ts';
import { CredentialError } from './api-client.ts';

/**
 * Maximum size of a kubeconfig, or of a file with a token, a key or certificates. The certificates of all public authorities take 220 KiB.
 */
export const MAX_CREDENTIAL_BYTES = 2 ** 20;

/** Throws CredentialError that names the file. The call blocks, but not for long, because the files of the kubelet are in memory. */
export async function readCredential(path: string): Promise<string> {
  try {
    return await Promise.resolve(readBoundedText(path, { maxBytes: MAX_CREDENTIAL_BYTES }));
  } catch (cause) {
    throw new CredentialError(`cannot read ${path}: ${systemReason(cause)}`, { cause });
  }
}

/** Returns "Bearer " and the token in the file. */
export async function readBearer(path: string): Promise<string> {
  const token = (await readCredential(path)).trim();
  if (!isToken(token)) throw new CredentialError(`${path} contains no token: a token is one word of ASCII characters`);
  return `Bearer ${token}`;
}

/** Whether the text can be part of a header. */
export const isToken = (text: string): boolean => /^[\x21-\x7e]+$/.test(text);

/** The PEM text of a file of CA certificates. Node would accept any text and then trust no server. */
export async function readAuthority(path: string): Promise<string> {
  const text = await readCredential(path);
  if (!isCertificate(text)) throw new CredentialError(`${path} contains no PEM certificate`);
  return text;
}

/** Whether the PEM text begins with a valid certificate. */
export function isCertificate(text: string): boolean {
  try {
    return new X509Certificate(text).fingerprint256 !== '';
  } catch {
    return false;
  }
}
