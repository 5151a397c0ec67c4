// SPDX-License-Identifier: Apache-2.0
// Reads deploy/sluice.yaml for tests: its objects, and the fields of the DaemonSet that define how the container runs.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';

export const deploy = join(import.meta.dirname, '../../../deploy');

interface Probe {
  readonly httpGet: { readonly host: string; readonly port: number; readonly path: string };
}

interface VolumeMount {
  readonly name: string;
  readonly mountPath: string;
  readonly readOnly?: boolean;
}

export interface Container {
  readonly name: string;
  readonly image: string;
  readonly command: readonly string[];
  readonly args: readonly string[];
  readonly env: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: object }[];
  readonly securityContext: { readonly capabilities: { readonly drop: readonly string[]; readonly add: readonly string[] } };
  readonly startupProbe: Probe;
  readonly livenessProbe: Probe;
  readonly readinessProbe: Probe;
  readonly volumeMounts: readonly VolumeMount[];
}

interface PodSpec {
  readonly terminationGracePeriodSeconds: number;
  readonly initContainers: readonly Container[];
  readonly containers: readonly Container[];
  readonly volumes: readonly {
    readonly name: string;
    readonly hostPath?: { readonly path: string };
    readonly configMap?: { readonly name: string };
  }[];
}

export interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

export interface ClusterRole extends Manifest {
  readonly rules: readonly {
    readonly apiGroups: readonly string[];
    readonly resources: readonly string[];
    readonly verbs: readonly string[];
  }[];
}

export interface ConfigMap extends Manifest {
  readonly data: Readonly<Record<string, string>>;
}

export interface DaemonSet extends Manifest {
  readonly spec: { readonly template: { readonly spec: PodSpec } };
}

export function manifests(): readonly Manifest[] {
  return parseAllDocuments(readFileSync(join(deploy, 'sluice.yaml'), 'utf8')).map((document) => {
    if (document.errors[0] !== undefined) throw document.errors[0];
    return document.toJS() as Manifest;
  });
}

export function manifest<T extends Manifest>(kind: string): T {
  const found = manifests().find((each) => each.kind === kind);
  if (found === undefined) throw new Error(`deploy/sluice.yaml has no ${kind}`);
  return found as T;
}

/** The pod template of the DaemonSet, and the container of the daemon. */
export function daemonPod(): { readonly pod: PodSpec; readonly container: Container } {
  const pod = manifest<DaemonSet>('DaemonSet').spec.template.spec;
  const [container] = pod.containers;
  if (container === undefined) throw new Error('the DaemonSet has no container');
  return { pod, container };
}
