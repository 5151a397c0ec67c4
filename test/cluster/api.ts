// SPDX-License-Identifier: Apache-2.0
// Access to the API of a control plane as an administrator: requests through a Unix socket, and kubectl. until() repeats a request
// until its result is as expected. All cluster tests use it.
import { execFile } from 'node:child_process';
import { Agent, request } from 'node:http';
import { promisify } from 'node:util';
import type { Lab } from '../support/lab/lab.ts';
import { tools } from './tools.ts';

/** The fields of API objects that the tests read. The kind of an object decides which of them it has. */
export interface KubeObject {
  readonly spec: KubeSpec;
  readonly status: {
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    /** A Pod has this field. */
    readonly podIP: string;
  };
  /** A list has this field. */
  readonly items: readonly KubeObject[];
  /** An EndpointSlice has this field. */
  readonly endpoints: readonly object[];
  /** A ClusterRole has this field. */
  readonly rules: readonly { readonly verbs: readonly string[] }[];
}

/** Fields of a Service or of a Pod. */
export interface KubeSpec {
  readonly type: string;
  readonly clusterIP: string;
  readonly clusterIPs: readonly string[];
  readonly ports: readonly { readonly port: number; readonly protocol: string; readonly nodePort: number }[];
  readonly healthCheckNodePort: number;
  readonly hostNetwork?: boolean;
  readonly nodeName: string;
}

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

interface ApiAccess {
  readonly lab: Lab;
  /** Unix socket that `kubectl proxy` listens on. */
  readonly socket: string;
  /** Kubeconfig for kubectl in the namespace "api". */
  readonly kubeconfig: string;
}

const TIMEOUT_MS = 30_000;
const EVERY_MS = 25;

export class Api {
  readonly #access: ApiAccess;
  readonly #agent = new Agent({ keepAlive: true });

  constructor(access: ApiAccess) {
    this.#access = access;
  }

  /** Whether the server answers and reports that it is ready. */
  async isReady(): Promise<boolean> {
    const answer = await this.#request('GET', '/readyz').catch(() => undefined);
    return answer?.status === 200;
  }

  /** The object at that path; undefined if there is none. */
  async get(path: string): Promise<KubeObject | undefined> {
    const answer = await this.#request('GET', path);
    return answer.status === 404 ? undefined : valueOf(answer, `GET ${path}`);
  }

  /** The object at that path. Throws if there is none. */
  async existing(path: string): Promise<KubeObject> {
    return valueOf(await this.#request('GET', path), `GET ${path}`);
  }

  async create(path: string, object: object): Promise<KubeObject> {
    return valueOf(await this.#request('POST', path, { body: object }), `POST ${path}`);
  }

  /** Sends a merge patch. The path of a status ends in /status. */
  async patch(path: string, change: object): Promise<KubeObject> {
    const type = 'application/merge-patch+json';
    return valueOf(await this.#request('PATCH', path, { body: change, type }), `PATCH ${path}`);
  }

  /** Deleting an object that does not exist is not an error. */
  async delete(path: string, graceSeconds = 0): Promise<void> {
    const answer = await this.#request('DELETE', path, { body: { gracePeriodSeconds: graceSeconds } });
    if (answer.status !== 404) valueOf(answer, `DELETE ${path}`);
  }

  /** Runs kubectl and returns its output. Throws if kubectl fails. `input` is for `-f -`. */
  async kubectl(args: readonly string[], input?: object | readonly object[]): Promise<string> {
    const { lab, kubeconfig } = this.#access;
    const command = [`--net=/run/netns/${lab.netns('api')}`, tools.kubectl, '--kubeconfig', kubeconfig, ...args];
    const running = promisify(execFile)('nsenter', command, { maxBuffer: 1 << 26 });
    running.child.stdin?.end(
      input === undefined
        ? ''
        : [input]
            .flat()
            .map((each) => JSON.stringify(each))
            .join('\n---\n'),
    );
    const { stdout } = await running;
    return stdout;
  }

  #request(method: string, path: string, { body, type = 'application/json' }: { body?: object; type?: string } = {}): Promise<Answer> {
    const text = body === undefined ? '' : JSON.stringify(body);
    // Without a content-length Node.js does not mark the end of the body of a DELETE.
    const headers = text === '' ? {} : { 'content-type': type, 'content-length': Buffer.byteLength(text) };
    return new Promise((resolve, reject) => {
      const sent = request({ socketPath: this.#access.socket, agent: this.#agent, method, path, headers }, (response) => {
        let answer = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => (answer += chunk));
        response.on('end', () => {
          const parsed: unknown = answer.startsWith('{') ? JSON.parse(answer) : answer;
          resolve({ status: response.statusCode ?? 0, body: parsed });
        });
        response.on('error', reject);
      });
      sent.on('error', reject);
      sent.end(text);
    });
  }
}

function valueOf({ status, body }: Answer, what: string): KubeObject {
  if (status >= 300) throw new Error(`${what}: ${status} ${(body as { message?: string }).message ?? String(body)}`);
  return body as KubeObject;
}

/**
 * Calls `isSo` until it returns a result. Errors are retried too; on a timeout, the last error is the cause of the thrown error.
 */
export async function until<T>(what: string, isSo: () => Promise<T | false | undefined>): Promise<T> {
  let cause: unknown;
  for (const end = performance.now() + TIMEOUT_MS; performance.now() < end;) {
    try {
      const answer = await isSo();
      cause = undefined;
      if (answer !== false && answer !== undefined) return answer;
    } catch (error) {
      cause = error;
    }
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
  throw new Error(`Timed out after ${TIMEOUT_MS / 1000} s. Expected: ${what}.`, { cause });
}
