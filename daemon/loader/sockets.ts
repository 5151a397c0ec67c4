// SPDX-License-Identifier: Apache-2.0
// Programs onto the sockets of a cgroup, and off them. Replaced by link update like the devices' programs. A cgroup hook
// that somebody else holds alone is refused with a sentence, before any of ours is attached there.
import { statSync } from 'node:fs';
import { ExitCode, isDenied, isNotFound, Refusal } from '../errors.ts';
import { attachCgroup, AttachType, cgroupOfLink, updateLink } from '../kernel/link.ts';
import { closeFd, openPin, pin } from '../kernel/map.ts';
import { isCgroup2 } from '../kernel/host.ts';
import type { Datapath } from './datapath.ts';
import type { Attachment } from './devices.ts';
import type { PinDirectory } from './pins.ts';

const hooks: readonly { program: string; type: number }[] = [
  { program: 'sock_connect4', type: AttachType.connect4 },
  { program: 'sock_connect6', type: AttachType.connect6 },
  { program: 'sock_sendmsg4', type: AttachType.sendmsg4 },
  { program: 'sock_sendmsg6', type: AttachType.sendmsg6 },
  { program: 'sock_recvmsg4', type: AttachType.recvmsg4 },
  { program: 'sock_recvmsg6', type: AttachType.recvmsg6 },
  { program: 'sock_getpeer4', type: AttachType.getpeername4 },
  { program: 'sock_getpeer6', type: AttachType.getpeername6 },
];

export class Sockets {
  readonly #pins: PinDirectory;
  readonly #datapath: Datapath;
  #cgroup: string | undefined;

  constructor(pins: PinDirectory, datapath: Datapath) {
    this.#pins = pins;
    this.#datapath = datapath;
  }

  /** Attaches all hooks to the cgroup, or none: on failure those that this call made are removed again. */
  attach(cgroup: string): void {
    this.#refuseOther(cgroup);
    const made: string[] = [];
    try {
      for (const hook of hooks) if (!this.#takeOver(hook.program, cgroup)) made.push(this.#attachOne(hook, cgroup));
    } catch (error) {
      for (const program of made) this.#pins.remove('links', program);
      if (!isDenied(error)) throw error;
      throw new Refusal(
        ExitCode.kernel,
        `cgroup ${cgroup} does not let us attach: another program holds its socket hooks alone, or CAP_NET_ADMIN is missing (see bpftool cgroup tree); give --cgroup another directory or --socket-lb off`,
        { cause: error },
      );
    }
    this.#cgroup = cgroup;
  }

  /** Takes the hooks off again (--socket-lb off after on). */
  detach(): void {
    for (const hook of hooks) this.#pins.remove('links', hook.program);
    this.#cgroup = undefined;
  }

  attachments(): Attachment[] {
    const target = this.#cgroup;
    return target === undefined ? [] : hooks.map((hook) => ({ program: hook.program, target, kind: 'cgroup' }));
  }

  #refuseOther(cgroup: string): void {
    let isRight = false;
    try {
      isRight = isCgroup2(cgroup);
    } catch (cause) {
      throw new Refusal(ExitCode.config, `--cgroup ${cgroup} cannot be opened: name a directory of a cgroup v2 mount`, { cause });
    }
    if (!isRight) throw new Refusal(ExitCode.config, `--cgroup ${cgroup} is not cgroup v2: name a directory of a cgroup2 mount`);
  }

  #attachOne(hook: { program: string; type: number }, cgroup: string): string {
    const link = attachCgroup(this.#datapath.program(hook.program), cgroup, hook.type);
    try {
      pin(link, this.#pins.pathOf('links', hook.program));
    } finally {
      closeFd(link);
    }
    return hook.program;
  }

  #takeOver(program: string, cgroup: string): boolean {
    const link = openPin(this.#pins.pathOf('links', program));
    if (link === undefined) return false;
    try {
      // A cgroup's id is its directory's inode number.
      const isSame = cgroupOfLink(link) === BigInt(statSync(cgroup, { bigint: true }).ino);
      if (isSame) updateLink(link, this.#datapath.program(program));
      else this.#pins.remove('links', program);
      return isSame;
    } catch (error) {
      if (!isNotFound(error)) throw error;
      this.#pins.remove('links', program); // the cgroup was removed: ENOLINK, ENOENT
      return false;
    } finally {
      closeFd(link);
    }
  }
}
