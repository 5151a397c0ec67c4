// SPDX-License-Identifier: Apache-2.0
// Text of a kubeconfig -> its current context, validated. Does not open the files that the kubeconfig names. An unsupported
// field is an error and never ignored. No message contains a secret: values of the fields of a user are not shown.
import { dirname, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { ExitCode, ExitError } from '../../base/errors.ts';
import { yamlNestingFault } from '../../base/nesting.ts';
import { yamlReason } from '../../base/reasons.ts';
import { fieldText, flag, must, notValid, show, text } from '../convert/fields.ts';
import { isCertificate, isToken } from './credential-file.ts';

interface Place {
  /** Path of the kubeconfig. */
  readonly path: string;
  readonly field: readonly PropertyKey[];
}

const object = { error: 'must be an object' };
const list = { error: 'must be a list' };
const secret = z.string({ error: 'must be a string' });

/** A field whose empty value means that it is absent, as in kubectl. */
const optional = z
  .string({ error: 'must be a string' })
  .nullish()
  .transform((value) => value || undefined);

const isEmpty = (value: unknown): boolean =>
  value === undefined || value === null || value === '' || (typeof value === 'object' && Object.keys(value).length === 0);

const unsupported = (why: string) =>
  z
    .unknown()
    .refine(isEmpty, { error: `is not supported: ${why}` })
    .optional();
const impersonation = unsupported('sluiced does not impersonate another user');
const password = unsupported('API servers accept no passwords since Kubernetes 1.19, use a token or a client certificate');

/** PEM text in base64. */
const pem = (isValid: (text: string) => boolean, what: string) =>
  optional.transform((value, context) => {
    if (value === undefined) return undefined;
    const decoded = Buffer.from(value, 'base64').toString();
    if (!isValid(decoded)) context.addIssue({ code: 'custom', message: `must be ${what} in base64` });
    return decoded;
  });

const certificateData = pem(isCertificate, 'a PEM certificate');
const keyData = pem((decoded) => decoded.includes('-----BEGIN'), 'a PEM private key');

const server = text.nullish().transform((value, context) => {
  if (!value) return undefined;
  const url = URL.parse(value);
  const hasUser = value.includes('@');
  if (!hasUser && url?.protocol === 'https:' && url.search === '') return url;
  // A URL that contains a user name may also contain a password, so it is not shown.
  const found = hasUser ? 'without a user' : `is ${show(value)}`;
  context.addIssue({ code: 'custom', message: `must be a URL such as https://10.0.0.1:6443, ${found}` });
  return z.NEVER;
});

const clusterSchema = z
  .object(
    {
      server,
      'certificate-authority': optional,
      'certificate-authority-data': certificateData,
      'tls-server-name': optional,
      'insecure-skip-tls-verify': flag(false),
      'proxy-url': unsupported('sluiced connects to the API server directly'),
      extensions: z.array(z.looseObject({ name: text }, object), list).nullish(),
    },
    object,
  )
  .superRefine((cluster, context) => {
    // kubectl rejects this combination too: the certificate authority would not be used.
    if (cluster['insecure-skip-tls-verify'] && (cluster['certificate-authority'] ?? cluster['certificate-authority-data']) !== undefined)
      context.addIssue({
        code: 'custom',
        path: ['insecure-skip-tls-verify'],
        message: 'must not be true together with certificate-authority',
      });
  });

const versions = ['client.authentication.k8s.io/v1', 'client.authentication.k8s.io/v1beta1'] as const;

const execSchema = z.object(
  {
    apiVersion: z.enum(versions, must(versions.join(' or '))),
    command: text.min(1, must('a command')),
    args: z.array(secret, list).nullish(),
    env: z.array(z.object({ name: text.min(1, must('a name')), value: secret }, object), list).nullish(),
    installHint: optional,
    interactiveMode: z
      .literal(['Never', 'IfAvailable', 'Always'], must('Never or IfAvailable'))
      .nullish()
      .refine((mode) => mode !== 'Always', { error: 'must be Never or IfAvailable, is Always: sluiced has no terminal' }),
    provideClusterInfo: flag(false),
  },
  object,
);

const userSchema = z
  .object(
    {
      'client-certificate': optional,
      'client-certificate-data': certificateData,
      'client-key': optional,
      'client-key-data': keyData,
      token: optional.refine((value) => value === undefined || isToken(value), { error: 'must be one word of ASCII characters' }),
      tokenFile: optional,
      exec: execSchema.nullish(),
      'auth-provider': unsupported('kubectl removed it in version 1.26, use exec'),
      username: password,
      password,
      as: impersonation,
      'as-uid': impersonation,
      'as-groups': impersonation,
      'as-user-extra': impersonation,
    },
    object,
  )
  .superRefine((user, context) => {
    const refuse = (field: string, message: string): void => context.addIssue({ code: 'custom', path: [field], message });
    const hasCertificate = (user['client-certificate'] ?? user['client-certificate-data']) !== undefined;
    const hasKey = (user['client-key'] ?? user['client-key-data']) !== undefined;
    if (hasCertificate && !hasKey) refuse('client-key', 'is required together with client-certificate');
    if (hasKey && !hasCertificate) refuse('client-certificate', 'is required together with client-key');
    if (user.exec && (hasCertificate || (user.token ?? user.tokenFile) !== undefined))
      refuse('exec', 'cannot be combined with token, tokenFile or client-certificate: remove either exec or the others');
  });

const entries = z
  .array(z.looseObject({ name: text }, object), list)
  .nullish()
  .transform((all) => all ?? []);
const name = z.string(must('a name')).min(1, must('a name'));
const fileSchema = z.object({ 'current-context': name, contexts: entries, clusters: entries, users: entries }, object);
const contextSchema = z.object({ cluster: name, user: name }, object);

export type Cluster = z.output<typeof clusterSchema>;
export type User = z.output<typeof userSchema>;
export type ExecPlugin = z.output<typeof execSchema>;

export interface CurrentContext {
  readonly cluster: Cluster;
  readonly user: User;
  readonly userName: string;
  /** Field of the cluster: "clusters[0].cluster". */
  readonly clusterField: string;
  /** Folder of the kubeconfig. Relative paths in the file start there. */
  readonly folder: string;
}

/** Throws ExitError, with file and field, when anything that the current context needs is invalid. */
export function readCurrentContext(path: string, source: string): CurrentContext {
  const file = read(fileSchema, parse(path, source), { path, field: [] });
  const find = (kind: 'contexts' | 'clusters' | 'users', wanted: string, field: readonly PropertyKey[]) => {
    const index = file[kind].findIndex((entry) => entry.name === wanted);
    const what = kind.slice(0, -1);
    if (index === -1) throw refusal({ path, field }, `names the ${what} ${show(wanted)}, which this file does not define`);
    return { raw: file[kind][index]?.[what], field: [kind, index, what] };
  };
  const context = find('contexts', file['current-context'], ['current-context']);
  const names = read(contextSchema, context.raw, { path, field: context.field });
  const cluster = find('clusters', names.cluster, [...context.field, 'cluster']);
  const user = find('users', names.user, [...context.field, 'user']);
  return {
    cluster: read(clusterSchema, cluster.raw, { path, field: cluster.field }),
    user: read(userSchema, user.raw, { path, field: user.field }),
    userName: names.user,
    clusterField: fieldText(cluster.field),
    folder: dirname(resolve(path)),
  };
}

function parse(path: string, source: string): unknown {
  const deep = yamlNestingFault(source);
  if (deep !== undefined) throw refusal({ path, field: [] }, `line ${deep.line + 1}: ${deep.reason}`);
  // The parser's pretty errors would quote lines of the file, which may contain credentials.
  const document = parseDocument(source, { prettyErrors: false });
  const [error] = document.errors;
  if (error === undefined) return valueOf(path, document);
  const line = source.slice(0, error.pos[0]).split('\n').length;
  throw refusal({ path, field: [] }, `line ${line}: not valid YAML: ${yamlReason(error)}`);
}

function valueOf(path: string, document: { toJS(): unknown }): unknown {
  try {
    return document.toJS();
  } catch (error) {
    throw refusal({ path, field: [] }, `not valid YAML: ${yamlReason(error)}`);
  }
}

function read<T>(schema: z.ZodType<T>, raw: unknown, at: Place): T {
  const result = schema.safeParse(raw, notValid);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw refusal({ path: at.path, field: [...at.field, ...(issue?.path ?? [])] }, issue?.message ?? 'is invalid');
}

function refusal({ path, field }: Place, reason: string): ExitError {
  return new ExitError(ExitCode.config, [path, fieldText(field), reason].filter((part) => part !== '').join(': '));
}
