// SPDX-License-Identifier: Apache-2.0
// The API of a control plane, as an administrator: requests by its Unix socket, and kubectl. What tests wait for is asked
// for again until it is so.
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
    /** Pod. */
    readonly podIP: string;
  };
  /** A list. */
  readonly items: readonly KubeObject[];
  /** EndpointSlice. */
  readonly endpoints: readonly object[];
  /** ClusterRole. */
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
  /** For kubectl in the namespace "api". */
  readonly kubeconfig: string;
}

const PATIENCE_MS = 30_000;
const EVERY_MS = 25;

export class Api {
  readonly #access: ApiAccess;
  readonly #agent = new Agent({ keepAlive: true });

  constructor(access: ApiAccess) {
    this.#access = access;
  }

  /** Whether the server answers and calls itself ready. */
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

  /** A merge patch; of the status with a path that ends so. */
  async patch(path: string, change: object): Promise<KubeObject> {
    const type = 'application/merge-patch+json';
    return valueOf(await this.#request('PATCH', path, { body: change, type }), `PATCH ${path}`);
  }

  /** What is gone already is no error. */
  async delete(path: string, graceSeconds = 0): Promise<void> {
    const answer = await this.#request('DELETE', path, { body: { gracePeriodSeconds: graceSeconds } });
    if (answer.status !== 404) valueOf(answer, `DELETE ${path}`);
  }

  /** What kubectl prints; it throws what kubectl complains of. `input` is for `-f -`. */
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
    // Left to itself, Node.js does not say where the body of a DELETE ends.
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

/** Asks until the answer is there. An error is an answer to ask again after; the last one is the cause. */
export async function until<T>(what: string, isSo: () => Promise<T | false | undefined>): Promise<T> {
  let cause: unknown;
  for (const end = performance.now() + PATIENCE_MS; performance.now() < end;) {
    try {
      const answer = await isSo();
      cause = undefined;
      if (answer !== false && answer !== undefined) return answer;
    } catch (error) {
      cause = error;
    }
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
  throw new Error(`never came: ${what}`, { cause });
}
