// SPDX-License-Identifier: Apache-2.0
// BPF objects that belong to a test: those that one process holds, and links by their pins. Other users of BPF on the machine
// load and free programs at the same time, so nothing here compares the kernel's whole list with an earlier one.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sh } from './shell.ts';

/** "prog 12", "map 3", "link 7": the kernel does not give an id to a second object. */
export type BpfObjectName = `${'prog' | 'map' | 'link'} ${number}`;

/** The objects that a process holds by its descriptors, each once. */
export function heldBy(pid: number | 'self'): BpfObjectName[] {
  const directory = `/proc/${pid}/fdinfo`;
  const names = readdirSync(directory).flatMap((descriptor) => {
    const text = infoOf(join(directory, descriptor));
    return [...text.matchAll(/^(prog|map|link)_id:\s+(\d+)$/gm)].map(([, kind, id]) => `${kind} ${id}` as BpfObjectName);
  });
  return [...new Set(names)].sort();
}

/** The descriptor of the directory itself is closed by the time its entry is read. */
function infoOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Those of the objects that the kernel still has. */
export function existing(objects: readonly BpfObjectName[]): BpfObjectName[] {
  const ids = (kind: 'prog' | 'map'): BpfObjectName[] =>
    (JSON.parse(sh('bpftool', '-j', kind, 'show')) as { id: number }[]).map(({ id }): BpfObjectName => `${kind} ${id}`);
  const all = new Set([...ids('prog'), ...ids('map')]);
  return objects.filter((object) => (object.startsWith('link ') ? hasLink(object.slice(5)) : all.has(object)));
}

/** Looks links up by id: bpftool gives up listing when it meets a link that another process is just creating. */
function hasLink(id: string): boolean {
  try {
    sh('bpftool', 'link', 'show', 'id', id);
    return true;
  } catch (error) {
    if (/No such file or directory/.test(String(error))) return false;
    throw error;
  }
}

export interface PinnedLink {
  readonly id: number;
  readonly prog_id: number;
}

/** Every link that is pinned in a directory, in the order of the pins' names. */
export const pinnedLinks = (directory: string): PinnedLink[] =>
  readdirSync(directory)
    .sort()
    .map((name) => JSON.parse(sh('bpftool', '-j', 'link', 'show', 'pinned', join(directory, name))) as PinnedLink);
