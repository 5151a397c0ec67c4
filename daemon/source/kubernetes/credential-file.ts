// SPDX-License-Identifier: Apache-2.0
// Files that hold what we show the API server, or know it by: tokens, certificates, keys. Read when asked, every time, for
// they are rotated under us. No message holds what is in them.
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { getSystemErrorMessage } from 'node:util';
import { messageOf } from '../../base/errors.ts';
import { CredentialError } from './api-client.ts';

/** "no such file or directory" for a system error: its own message repeats the path. */
export function reasonOf(error: unknown): string {
  const { errno } = error as NodeJS.ErrnoException;
  return errno === undefined ? messageOf(error) : getSystemErrorMessage(errno);
}

/** Throws CredentialError that names the file. */
export async function readCredential(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new CredentialError(`cannot read ${path}: ${reasonOf(cause)}`, { cause });
  }
}

/** "Bearer " and the token in the file. */
export async function readBearer(path: string): Promise<string> {
  const token = (await readCredential(path)).trim();
  if (!isToken(token)) throw new CredentialError(`${path} holds no token: it must be one word of ASCII characters`);
  return `Bearer ${token}`;
}

/** Whether it can stand in a header. */
export const isToken = (text: string): boolean => /^[\x21-\x7e]+$/.test(text);

/** The PEM text of a file of certificates to trust. Node would take any text, and then trust nobody. */
export async function readAuthority(path: string): Promise<string> {
  const text = await readCredential(path);
  if (!isCertificate(text)) throw new CredentialError(`${path} holds no PEM certificate`);
  return text;
}

/** Whether PEM text begins with a certificate that can be read. */
export function isCertificate(text: string): boolean {
  try {
    return new X509Certificate(text).subject !== undefined;
  } catch {
    return false;
  }
}
