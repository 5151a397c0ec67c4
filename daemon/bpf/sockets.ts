// SPDX-License-Identifier: Apache-2.0
// Attaches the socket programs to a cgroup, and detaches them. Programs are replaced by link update, as on devices. When another
// program holds a hook exclusively, the start fails with an error message and detaches the programs that it attached.
import { statSync } from 'node:fs';
import { ExitCode, isDenied, ExitError } from '../base/errors.ts';
import { attachCgroup, AttachType, cgroupOfLink } from '../kernel/link.ts';
import { type Held, HeldLink } from './attached.ts';
import type { Datapath } from './datapath.ts';
import type { Attachment } from './devices.ts';
import type { PinDirectory } from './pins.ts';

interface SocketHook {
  readonly program: string;
  /** Attach type: enum bpf_attach_type. */
  readonly type: number;
  /** True if the program translates requests. The others translate the address of the backend back for sockets whose requests were translated. */
  readonly isRequest: boolean;
}

/** All hooks. */
export const socketHooks: readonly SocketHook[] = [
  { program: 'sock_connect4', type: AttachType.connect4, isRequest: true },
  { program: 'sock_connect6', type: AttachType.connect6, isRequest: true },
  { program: 'sock_sendmsg4', type: AttachType.sendmsg4, isRequest: true },
  { program: 'sock_sendmsg6', type: AttachType.sendmsg6, isRequest: true },
  { program: 'sock_recvmsg4', type: AttachType.recvmsg4, isRequest: false },
  { program: 'sock_recvmsg6', type: AttachType.recvmsg6, isRequest: false },
  { program: 'sock_getpeer4', type: AttachType.getpeername4, isRequest: false },
  { program: 'sock_getpeer6', type: AttachType.getpeername6, isRequest: false },
];

export class Sockets {
  readonly #pins: PinDirectory;
  readonly #datapath: Datapath;
  #cgroup = '';
  /** By program. */
  readonly #links = new Map<string, HeldLink>();

  constructor(pins: PinDirectory, datapath: Datapath) {
    this.#pins = pins;
    this.#datapath = datapath;
  }

  /** The hooks that have a program in the present phase. While the datapath drains, requests are not translated. */
  hooks(): SocketHook[] {
    const isDraining = this.#datapath.phase === 'draining';
    return socketHooks.filter(({ isRequest }) => !isRequest || !isDraining);
  }

  /** Attaches a program to each of hooks() in the cgroup. A failure detaches the programs that this call attached. */
  attach(cgroup: string): void {
    this.#cgroup = cgroup;
    const made: string[] = [];
    try {
      for (const { program, type } of this.hooks()) {
        const link = this.#linkOf({ program, type });
        if (link.attach(this.#datapath.program(program))) made.push(program);
        this.#links.get(program)?.close();
        this.#links.set(program, link);
      }
    } catch (error) {
      for (const program of made) this.#links.get(program)?.remove();
      this.close();
      if (!isDenied(error)) throw error;
      throw new ExitError(
        ExitCode.occupied,
        `cgroup ${cgroup} rejects our programs: another program holds its socket hooks exclusively (see bpftool cgroup tree); give --cgroup another directory, or use --socket-lb off`,
        { cause: error },
      );
    }
  }

  /** Detaches what an earlier daemon attached (--socket-lb off after on). */
  detach(): void {
    for (const { program } of socketHooks) this.#pins.remove('links', program);
  }

  /** Detaches the programs that translate requests, also those that an earlier daemon attached. */
  detachRequests(): void {
    for (const { program, isRequest } of socketHooks) {
      if (!isRequest) continue;
      const link = this.#links.get(program);
      this.#links.delete(program);
      if (link === undefined) this.#pins.remove('links', program);
      else link.remove();
    }
  }

  /** Every attached program. */
  *held(): IterableIterator<Held> {
    for (const [program, attached] of this.#links) yield { program, target: this.#cgroup, attached };
  }

  /** Closes our descriptors; the programs stay attached to the cgroup. */
  close(): void {
    for (const link of this.#links.values()) link.close();
    this.#links.clear();
  }

  attachments(): Attachment[] {
    return [...this.#links.keys()].map((program) => ({ program, target: this.#cgroup, kind: 'cgroup' }));
  }

  #linkOf(hook: Pick<SocketHook, 'program' | 'type'>): HeldLink {
    const cgroup = this.#cgroup;
    return new HeldLink({
      pins: this.#pins,
      name: hook.program,
      attach: (fd) => attachCgroup(fd, cgroup, hook.type),
      // The kernel reports 0 once the cgroup is gone or the link was detached. A cgroup that was removed and created again has another id.
      isOurs: (link) => cgroupOfLink(link) === idOf(cgroup),
    });
  }
}

/** The id of a cgroup, which is the inode number of its directory; undefined when the directory does not exist. */
const idOf = (cgroup: string): bigint | undefined => statSync(cgroup, { bigint: true, throwIfNoEntry: false })?.ino;
