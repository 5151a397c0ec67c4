// SPDX-License-Identifier: Apache-2.0
// A credential that a program of the user's makes (client.authentication.k8s.io): cloud providers hand out tokens so. The one
// file of the daemon that starts a child process: one at a time, for a limited time, with limited output, and only when a
// kubeconfig names one. What it printed is cached until it is about to expire or the server refuses it; nothing is retried.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { z } from 'zod';
import type { Clock } from '../../base/clock.ts';
import { fieldText, must } from '../convert/fields.ts';
import { CredentialError } from './api-client.ts';
import { isCertificate, isToken, reasonOf } from './credential-file.ts';
import type { ExecPlugin } from './kubeconfig-file.ts';

export interface ExecOptions {
  readonly plugin: ExecPlugin;
  /** What a plugin that wants it is told of the cluster. */
  readonly cluster: () => Promise<object>;
  readonly env: Readonly<NodeJS.ProcessEnv>;
  readonly clock: Clock;
  /** Expiry is a wall time. */
  readonly wallNow: () => number;
}

interface Credential {
  readonly authorization?: string;
  readonly cert?: string;
  readonly key?: string;
  /** By the clock. */
  readonly freshUntil: number;
}

/** A cloud's token service may be slow; a plugin that waits for somebody to answer would wait for ever. */
const limitMs = 60_000;
const outputLimit = 1 << 20;
const stderrKept = 4096;

/** Empty is absent. The value is not shown: it is a secret. */
const secret = (isRight: (value: string) => boolean, what: string) =>
  z
    .string({ error: `must be ${what}` })
    .nullish()
    .transform((value) => value || undefined)
    .refine((value) => value === undefined || isRight(value), { error: `must be ${what}` });

const statusSchema = z
  .object(
    {
      token: secret(isToken, 'one word of ASCII characters'),
      clientCertificateData: secret(isCertificate, 'a PEM certificate'),
      clientKeyData: secret((key) => key.includes('-----BEGIN'), 'a PEM private key'),
      expirationTimestamp: z.iso.datetime({ offset: true, error: 'must be a time such as 2030-01-01T00:00:00Z' }).nullish(),
    },
    { error: 'must be an object' },
  )
  .refine(({ token, clientCertificateData }) => token !== undefined || clientCertificateData !== undefined, {
    error: 'holds neither token nor clientCertificateData',
  })
  .refine((status) => (status.clientCertificateData === undefined) === (status.clientKeyData === undefined), {
    error: 'must hold clientCertificateData and clientKeyData together',
  });

const credentialSchema = (apiVersion: string) =>
  z.object(
    {
      apiVersion: z.literal(apiVersion, must(`${apiVersion}, as the kubeconfig says`)),
      kind: z.literal('ExecCredential', must('ExecCredential')),
      status: statusSchema,
    },
    { error: 'it must be a JSON object' },
  );

export class ExecCredential {
  readonly #options: ExecOptions;
  #cached: Credential | undefined;
  #running: Promise<Credential> | undefined;
  readonly #closing = new AbortController();

  constructor(options: ExecOptions) {
    this.#options = options;
  }

  /** Throws CredentialError that names the command. */
  async get(): Promise<Credential> {
    if (this.#cached !== undefined && this.#options.clock.now() < this.#cached.freshUntil) return this.#cached;
    this.#running ??= this.#make().finally(() => (this.#running = undefined));
    return this.#running;
  }

  /** Unless what was refused is older than what is cached by now. */
  forget(refused: string | undefined): void {
    if (this.#cached?.authorization === refused) this.#cached = undefined;
  }

  /** Kills the plugin if it runs. */
  close(): void {
    this.#closing.abort();
  }

  async #make(): Promise<Credential> {
    const { plugin, cluster, clock, wallNow } = this.#options;
    const { apiVersion } = plugin;
    const spec = { interactive: false, ...(plugin.provideClusterInfo ? { cluster: await cluster() } : {}) };
    const info = JSON.stringify({ apiVersion, kind: 'ExecCredential', spec });
    const output = await run(this.#options, info, this.#closing.signal);
    const { token, clientCertificateData: cert, clientKeyData: key, expirationTimestamp } = statusOf(output, plugin);
    const left = expirationTimestamp ? Date.parse(expirationTimestamp) - wallNow() : Infinity;
    this.#cached = {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(cert === undefined || key === undefined ? {} : { cert, key }),
      // A request that leaves with the token must arrive with it.
      freshUntil: clock.now() + left - Math.min(10_000, left / 10),
    };
    return this.#cached;
  }
}

/** What the plugin printed, once it has ended well. */
async function run({ plugin, env, clock }: ExecOptions, info: string, closing: AbortSignal): Promise<string> {
  const own = Object.fromEntries((plugin.env ?? []).map(({ name, value }) => [name, value]));
  const child = start(plugin, { ...env, ...own, KUBERNETES_EXEC_INFO: info });
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const abandon = (reason: string): void => {
    reject(failure(plugin, reason));
    // It may have ended already, and what it started go on.
    killGroup(child.pid);
    child.stdout.destroy();
    child.stderr.destroy();
  };
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    stdout += chunk;
    if (stdout.length > outputLimit) abandon(`printed more than ${outputLimit} characters`);
  });
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    stderr = (stderr + chunk).slice(-stderrKept);
  });
  child.once('error', (cause) => reject(notStarted(plugin, cause)));
  child.once('close', (code, signal) => {
    if (code === 0) resolve(stdout);
    else reject(failure(plugin, `ended with ${signal ?? `exit code ${code}`}${lastLine(stderr)}`));
  });
  const cancel = clock.setTimer(limitMs, () => abandon(`did not end within ${limitMs / 1000} s`));
  const onClosing = (): void => abandon('was ended with the daemon');
  closing.addEventListener('abort', onClosing);
  try {
    return await promise;
  } finally {
    cancel();
    closing.removeEventListener('abort', onClosing);
  }
}

function start(plugin: ExecPlugin, env: NodeJS.ProcessEnv): ChildProcessByStdio<null, Readable, Readable> {
  try {
    // Detached: in a group of its own, so that what it starts ends with it, and without a terminal to ask at.
    return spawn(plugin.command, plugin.args ?? [], { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  } catch (cause) {
    throw notStarted(plugin, cause);
  }
}

function killGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // Nobody is left in it.
  }
}

function statusOf(output: string, plugin: ExecPlugin): z.output<typeof statusSchema> {
  const result = credentialSchema(plugin.apiVersion).safeParse(jsonOf(output));
  if (result.success) return result.data.status;
  const issue = result.error.issues[0];
  const field = fieldText(issue?.path ?? []);
  throw failure(plugin, `printed no ExecCredential: ${field === '' ? '' : `${field} `}${issue?.message ?? 'is invalid'}`);
}

/** Undefined when it is none: JSON's own message would quote it. */
function jsonOf(output: string): unknown {
  try {
    return JSON.parse(output);
  } catch {
    return undefined;
  }
}

const failure = (plugin: ExecPlugin, reason: string, cause?: unknown): CredentialError =>
  new CredentialError(`the exec plugin ${plugin.command} ${reason}`, { cause });

function notStarted(plugin: ExecPlugin, cause: unknown): CredentialError {
  if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') return failure(plugin, `cannot be started: ${reasonOf(cause)}`, cause);
  return failure(plugin, `is not found${plugin.installHint === undefined ? '' : `: ${oneLine(plugin.installHint)}`}`, cause);
}

const oneLine = (text: string): string => text.replaceAll(/[\s\p{Cc}]+/gu, ' ').trim();

/** ": " and what it complained of last. */
function lastLine(stderr: string): string {
  const line = oneLine(stderr.trimEnd().split('\n').at(-1) ?? '').slice(0, 300);
  return line === '' ? '' : `: ${line}`;
}
