// SPDX-License-Identifier: Apache-2.0
// Reads from the log of `strace -f -o FILE -e trace=...` what a process did to pinned maps: it follows descriptors from BPF_OBJ_GET through
// every duplication. It must not depend on Sluice, except that pins are in a directory named maps/. Used by netns tests.

/** The system calls that must be traced for followMaps(). */
export const tracedCalls = 'bpf,mmap,dup,dup2,dup3,fcntl,close';

export interface MapTrace {
  /** Names of the maps that were opened. */
  readonly opened: ReadonlySet<string>;
  /** "update lb_services", "delete lb4_frontends", "map lb_slots writable", in order. */
  readonly writes: readonly string[];
}

/** Follows descriptors through the lines of the log. */
export function followMaps(log: string): MapTrace {
  const names = new Map<number, string>();
  const opened = new Set<string>();
  const writes: string[] = [];
  for (const line of wholeLines(log)) {
    const result = Number(/ = (-?\d+)/.exec(line)?.[1] ?? -1);
    if (result < 0) continue;
    const pin = /^bpf\(BPF_OBJ_GET, \{pathname="[^"]*\/maps\/([^"]+)"/.exec(line)?.[1];
    const copied = /^(?:dup[23]?|fcntl)\((\d+)/.exec(line)?.[1];
    const isCopy = line.startsWith('dup') || line.includes('F_DUPFD');
    const closed = /^close\((\d+)\)/.exec(line)?.[1];
    const [, verb, target] = /^bpf\(BPF_MAP_(UPDATE|DELETE|LOOKUP_AND_DELETE)\w*, \{.*?map_fd=(\d+)/.exec(line) ?? [];
    const [, protection, mapped] = /^mmap\([^,]+, \d+, ([^,]+), [^,]+, (\d+),/.exec(line) ?? [];
    if (pin !== undefined) {
      names.set(result, pin);
      opened.add(pin);
    } else if (copied !== undefined && isCopy) {
      const name = names.get(Number(copied));
      if (name !== undefined) names.set(result, name);
    } else if (closed !== undefined) names.delete(Number(closed));
    else if (verb !== undefined && names.has(Number(target))) writes.push(`${verb.toLowerCase()} ${names.get(Number(target))}`);
    else if (protection?.includes('PROT_WRITE') === true && names.has(Number(mapped))) {
      writes.push(`map ${names.get(Number(mapped))} writable`);
    }
  }
  return { opened, writes };
}

/** Calls without process ids. A call whose line was split by another thread is joined. */
function wholeLines(log: string): string[] {
  const begun = new Map<string, string>();
  const lines: string[] = [];
  for (const line of log.split('\n')) {
    const [, pid = '', call = ''] = /^(\d+)\s+(.*)$/.exec(line) ?? [];
    if (call.endsWith('<unfinished ...>')) begun.set(pid, call.replace(/\s*<unfinished \.\.\.>$/, ''));
    else if (call.startsWith('<... ')) lines.push((begun.get(pid) ?? '') + call.replace(/^<\.\.\. \w+ resumed>/, ''));
    else lines.push(call);
  }
  return lines;
}
