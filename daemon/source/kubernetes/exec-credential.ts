// SPDX-License-Identifier: Apache-2.0
// Credentials from an exec plugin (client.authentication.k8s.io), which cloud providers use to issue tokens. The only file
// of the daemon that starts a child process: one at a time, with limits of time and output, and only if a kubeconfig names a
// plugin. The output is cached until it is about to expire or the server refuses it. Nothing is retried.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { z } from 'zod';
import type { Clock } from '../../base/clock.ts';
import { ReasonError } from '../../base/errors.ts';
import { systemReason } from '../../base/reasons.ts';
import { fieldText, must, notValid } from '../convert/fields.ts';
import { CredentialError } from './api-client.ts';
import { isCertificate, isToken } from './credential-file.ts';
import type { ExecPlugin } from './kubeconfig-file.ts';

export interface ExecOptions {
  readonly plugin: ExecPlugin;
  /** The field spec.cluster of the input of a plugin with provideClusterInfo. */
  readonly cluster: () => Promise<object>;
  readonly env: Readonly<NodeJS.ProcessEnv>;
  readonly clock: Clock;
  /** Wall clock in ms. The plugin states the expiry as wall-clock time. */
  readonly wallNow: () => number;
}

interface Credential {
  readonly authorization?: string;
  readonly cert?: string;
  readonly key?: string;
  /** Time of ExecOptions.clock until which the cached credential is used. */
  readonly freshUntil: number;
}

/**
 * Time limit for one execution of the plugin: the token service of a cloud may be slow, and a plugin that waits for input would
 * never end.
 */
const limitMs = 60_000;
const maxOutput = 1 << 20;
const maxStderr = 4096;

/** A value that may be empty, which means absent. Messages do not show the value, because it is secret. */
const secret = (isValid: (value: string) => boolean, what: string) =>
  z
    .string({ error: `must be ${what}` })
    .nullish()
    .transform((value) => value || undefined)
    .refine((value) => value === undefined || isValid(value), { error: `must be ${what}` });

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
    error: 'must contain token or clientCertificateData',
  })
  .refine((status) => (status.clientCertificateData === undefined) === (status.clientKeyData === undefined), {
    error: 'must contain clientCertificateData and clientKeyData together',
  });

const credentialSchema = (apiVersion: string) =>
  z.object(
    {
      apiVersion: z.literal(apiVersion, must(`${apiVersion} as in the kubeconfig`)),
      kind: z.literal('ExecCredential', must('ExecCredential')),
      status: statusSchema,
    },
    { error: 'must be a JSON object' },
  );

export class ExecCredential {
  readonly #options: ExecOptions;
  #cached: Credential | undefined;
  #running: Promise<Credential> | undefined;
  readonly #closing = new AbortController();

  constructor(options: ExecOptions) {
    this.#options = options;
  }

  /** Returns the credential. Throws CredentialError that names the command. */
  async get(): Promise<Credential> {
    if (this.#cached !== undefined && this.#options.clock.now() < this.#cached.freshUntil) return this.#cached;
    this.#running ??= this.#runPlugin().finally(() => (this.#running = undefined));
    return this.#running;
  }

  /** Drops the cached credential, unless it is newer than the refused one. */
  invalidate(refused: string | undefined): void {
    if (this.#cached?.authorization === refused) this.#cached = undefined;
  }

  /** Kills the plugin if it runs. */
  close(): void {
    this.#closing.abort();
  }

  async #runPlugin(): Promise<Credential> {
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
      // The token must still be valid when a request that carries it arrives.
      freshUntil: clock.now() + left - Math.min(10_000, left / 10),
    };
    return this.#cached;
  }
}

/** The output of the plugin after it has exited with code 0. */
async function run({ plugin, env, clock }: ExecOptions, info: string, closing: AbortSignal): Promise<string> {
  const own = Object.fromEntries((plugin.env ?? []).map(({ name, value }) => [name, value]));
  const child = start(plugin, { ...env, ...own, KUBERNETES_EXEC_INFO: info });
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const abandon = (reason: string): void => {
    reject(failure(plugin, reason));
    // The plugin may have exited while a process that it started still runs.
    killGroup(child.pid);
    child.stdout.destroy();
    child.stderr.destroy();
  };
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    stdout += chunk;
    if (stdout.length > maxOutput) abandon(`printed more than ${maxOutput} characters`);
  });
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    stderr = (stderr + chunk).slice(-maxStderr);
  });
  for (const stream of [child.stdout, child.stderr]) stream.on('error', (cause) => abandon(`cannot be read: ${systemReason(cause)}`));
  child.once('error', (cause) => reject(startFailure(plugin, cause)));
  child.once('close', (code, signal) => {
    if (code === 0) resolve(stdout);
    else reject(failure(plugin, `${signal === null ? `exited with code ${code}` : `was terminated by ${signal}`}${lastLine(stderr)}`));
  });
  const cancel = clock.setTimer(limitMs, () => abandon(`did not exit within ${limitMs / 1000} s`));
  const onClosing = (): void => abandon('was stopped because the daemon stops');
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
    // Detached: the plugin gets no terminal, and a process group of its own, which can be killed as a whole.
    const child = spawn(plugin.command, plugin.args ?? [], { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    // Without free descriptors spawn() returns a child without streams, which reports its error later.
    if (isStarted(child)) return child;
    child.once('error', () => undefined);
    throw new ReasonError('this process has too many open files');
  } catch (cause) {
    throw startFailure(plugin, cause);
  }
}

function isStarted({ stdout, stderr }: { readonly stdout: Readable | undefined; readonly stderr: Readable | undefined }): boolean {
  return stdout !== undefined && stderr !== undefined;
}

function killGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // The process group is empty, so there is nothing to kill.
  }
}

function statusOf(output: string, plugin: ExecPlugin): z.output<typeof statusSchema> {
  const result = credentialSchema(plugin.apiVersion).safeParse(jsonOf(output), notValid);
  if (result.success) return result.data.status;
  const issue = result.error.issues[0];
  const field = fieldText(issue?.path ?? []);
  throw failure(plugin, `printed an invalid ExecCredential: ${field === '' ? '' : `${field} `}${issue?.message ?? 'is invalid'}`);
}

/** Returns undefined for invalid JSON, because the message of JSON.parse would quote the output. */
function jsonOf(output: string): unknown {
  try {
    return JSON.parse(output);
  } catch {
    return undefined;
  }
}

const failure = (plugin: ExecPlugin, reason: string, cause?: unknown): CredentialError =>
  new CredentialError(`the exec plugin ${plugin.command} ${reason}`, { cause });

function startFailure(plugin: ExecPlugin, cause: unknown): CredentialError {
  if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') return failure(plugin, `cannot be started: ${systemReason(cause)}`, cause);
  return failure(plugin, `was not found${plugin.installHint === undefined ? '' : `: ${oneLine(plugin.installHint)}`}`, cause);
}

const oneLine = (text: string): string => text.replaceAll(/[\s\p{Cc}]+/gu, ' ').trim();

/** Returns ": " and the last line of stderr. */
function lastLine(stderr: string): string {
  const line = oneLine(stderr.trimEnd().split('\n').at(-1) ?? '').slice(0, 300);
  return line === '' ? '' : `: ${line}`;
}
