// SPDX-License-Identifier: Apache-2.0
// The text of a kubeconfig -> what its current context says, checked. Opens none of the files it names. What we cannot do
// is refused by its field, never passed over; no message holds a secret: values of users are not shown.
import { dirname, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { ExitCode, ExitError } from '../../base/errors.ts';
import { fieldText, flag, must, show, text } from '../convert/fields.ts';
import { isCertificate, isToken } from './credential-file.ts';

interface Place {
  /** Of the file. */
  readonly path: string;
  readonly field: readonly PropertyKey[];
}

const object = { error: 'must be an object' };
const list = { error: 'must be a list' };
const secret = z.string({ error: 'must be a string' });

/** Empty is absent, as it is to kubectl. */
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
const nobodyElse = unsupported('sluiced speaks as the user itself');
const noPassword = unsupported('no API server takes passwords since Kubernetes 1.19, use a token or a client certificate');

/** PEM text in base64. */
const pem = (isRight: (text: string) => boolean, what: string) =>
  optional.transform((value, context) => {
    if (value === undefined) return undefined;
    const decoded = Buffer.from(value, 'base64').toString();
    if (!isRight(decoded)) context.addIssue({ code: 'custom', message: `must be ${what} in base64` });
    return decoded;
  });

const certificateData = pem(isCertificate, 'a PEM certificate');
const keyData = pem((decoded) => decoded.includes('-----BEGIN'), 'a PEM private key');

const server = text.nullish().transform((value, context) => {
  if (!value) return undefined;
  const url = URL.parse(value);
  const isAlone = !value.includes('@');
  if (isAlone && url?.protocol === 'https:' && url.search === '') return url;
  const found = isAlone ? `is ${show(value)}` : 'and name no user';
  context.addIssue({ code: 'custom', message: `must be an address such as https://10.0.0.1:6443, ${found}` });
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
    // As kubectl: an authority that is not asked is a mistake.
    if (cluster['insecure-skip-tls-verify'] && (cluster['certificate-authority'] ?? cluster['certificate-authority-data']) !== undefined)
      context.addIssue({ code: 'custom', path: ['insecure-skip-tls-verify'], message: 'must not be true beside a certificate-authority' });
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
      .refine((mode) => mode !== 'Always', { error: 'is Always, and sluiced has no terminal to ask at: must be Never or IfAvailable' }),
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
      'auth-provider': unsupported('kubectl does not know it either since 1.26, use exec'),
      username: noPassword,
      password: noPassword,
      as: nobodyElse,
      'as-uid': nobodyElse,
      'as-groups': nobodyElse,
      'as-user-extra': nobodyElse,
    },
    object,
  )
  .superRefine((user, context) => {
    const refuse = (field: string, message: string): void => context.addIssue({ code: 'custom', path: [field], message });
    const hasCertificate = (user['client-certificate'] ?? user['client-certificate-data']) !== undefined;
    const hasKey = (user['client-key'] ?? user['client-key-data']) !== undefined;
    if (hasCertificate && !hasKey) refuse('client-key', 'is missing beside client-certificate');
    if (hasKey && !hasCertificate) refuse('client-certificate', 'is missing beside client-key');
    if (user.exec && (hasCertificate || (user.token ?? user.tokenFile) !== undefined))
      refuse('exec', 'must be the only credential of the user: remove it, or token, tokenFile and client-certificate');
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
  /** Where the cluster is: "clusters[0].cluster". */
  readonly clusterField: string;
  /** The file's own: paths in it count from there. */
  readonly folder: string;
}

/** Throws ExitError with file and field for whatever the current context needs and is not right. */
export function readCurrentContext(path: string, source: string): CurrentContext {
  const file = read(fileSchema, parse(path, source), { path, field: [] });
  const find = (kind: 'contexts' | 'clusters' | 'users', wanted: string, field: readonly PropertyKey[]) => {
    const index = file[kind].findIndex((entry) => entry.name === wanted);
    const what = kind.slice(0, -1);
    if (index === -1) throw refusal({ path, field }, `names no ${what}, is ${show(wanted)}`);
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
  // Pretty errors quote the lines around.
  const document = parseDocument(source, { prettyErrors: false });
  const [broken] = document.errors;
  if (broken === undefined) return document.toJS();
  const line = source.slice(0, broken.pos[0]).split('\n').length;
  throw refusal({ path, field: [] }, `line ${line} is not YAML: ${broken.message}`);
}

function read<T>(schema: z.ZodType<T>, raw: unknown, at: Place): T {
  const result = schema.safeParse(raw);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw refusal({ path: at.path, field: [...at.field, ...(issue?.path ?? [])] }, issue?.message ?? 'is invalid');
}

function refusal({ path, field }: Place, reason: string): ExitError {
  return new ExitError(ExitCode.config, [path, fieldText(field), reason].filter((part) => part !== '').join(': '));
}
