// SPDX-License-Identifier: Apache-2.0
// Finds the BPF objects of a test: objects to which a process has descriptors, and links that are pinned in a directory. Other
// users of BPF on the machine load and free programs at the same time, so a test must not compare complete lists of the kernel's
// objects.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sh } from './shell.ts';

/** Kind and id of an object: "prog 12", "map 3", "link 7". The kernel does not reuse an id. */
export type BpfObjectName = `${'prog' | 'map' | 'link'} ${number}`;

/** The objects to which a process has descriptors, without duplicates. */
export function heldBy(pid: number | 'self'): BpfObjectName[] {
  const directory = `/proc/${pid}/fdinfo`;
  const names = readdirSync(directory).flatMap((descriptor) => {
    const text = infoOf(join(directory, descriptor));
    return [...text.matchAll(/^(prog|map|link)_id:\s+(\d+)$/gm)].map(([, kind, id]) => `${kind} ${id}` as BpfObjectName);
  });
  return [...new Set(names)].sort();
}

/** Returns '' for a descriptor that is already closed, such as the descriptor with which the directory was read. */
function infoOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** The objects in the list that still exist in the kernel. */
export function existing(objects: readonly BpfObjectName[]): BpfObjectName[] {
  const ids = (kind: 'prog' | 'map'): BpfObjectName[] =>
    (JSON.parse(sh('bpftool', '-j', kind, 'show')) as { id: number }[]).map(({ id }): BpfObjectName => `${kind} ${id}`);
  const all = new Set([...ids('prog'), ...ids('map')]);
  return objects.filter((object) => (object.startsWith('link ') ? hasLink(object.slice(5)) : all.has(object)));
}

/** Finds one link by its id. bpftool cannot list all links while another process creates one. */
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

/** Every link that is pinned in a directory, by the name of its pin, in the order of the names. */
export const pinnedLinksByName = (directory: string): Map<string, PinnedLink> =>
  new Map(
    readdirSync(directory)
      .sort()
      .map((name) => [name, JSON.parse(sh('bpftool', '-j', 'link', 'show', 'pinned', join(directory, name))) as PinnedLink]),
  );

export const pinnedLinks = (directory: string): PinnedLink[] => [...pinnedLinksByName(directory).values()];
