// SPDX-License-Identifier: Apache-2.0
// The BPF stack usage of the programs, computed from the compiled objects. Loading them is not enough: an older kernel may reject
// programs that the kernel of this machine accepts. A chain of calls may use 512 bytes. Each frame is rounded up to 16 bytes, and
// before Linux 6.9 to 32 bytes.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { objectsPath } from '../../../daemon/bpf/datapath.ts';

const SECTION_SYMBOLS = 2;
const SECTION_RELOCATIONS = 9;
const SYMBOL_FUNCTION = 2;
const UNDEFINED = 0; // section of a symbol
const INSTRUCTION = 8; // bytes
const CALL = 0x85;
const PSEUDO_CALL = 1; // a call of a function of the object
const ADD_IMMEDIATE = 0x07;
const FRAME_POINTER = 10;
const STACK = 512;

interface Section {
  readonly type: number;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
  readonly info: number;
}

interface Code {
  readonly name: string;
  readonly section: number;
  readonly from: number;
  readonly to: number;
}

/** A 64-bit little-endian ELF file: gABI, chapters 4 and 5; instructions: RFC 9669. */
class BpfElf {
  readonly functions: readonly Code[];
  readonly #view: DataView;
  readonly #sections: readonly Section[];
  readonly #symbols: readonly (Code & { readonly type: number })[];
  /** Symbol number by "section:offset". */
  readonly #relocations = new Map<string, number>();

  constructor(path: string) {
    const bytes = readFileSync(path);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#sections = Array.from({ length: this.#view.getUint16(60, true) }, (_, i) => this.#section(this.#long(40) + 64 * i));
    const symbols = this.#sections.find(({ type }) => type === SECTION_SYMBOLS) ?? expect.fail('no symbols');
    const names = this.#sections[symbols.link] ?? expect.fail('no names');
    this.#symbols = Array.from({ length: symbols.size / 24 }, (_, i) => this.#symbol(symbols.offset + 24 * i, names.offset));
    this.functions = this.#symbols.filter(({ type }) => type === SYMBOL_FUNCTION);
    for (const { type, offset, size, info } of this.#sections) {
      if (type !== SECTION_RELOCATIONS) continue;
      for (let at = offset; at < offset + size; at += 16)
        this.#relocations.set(`${info}:${this.#long(at)}`, this.#view.getUint32(at + 12, true));
    }
  }

  /** The entry functions of the programs. All other functions are in the section of the shared functions. */
  programs(): Code[] {
    const text = this.functions.find(({ name }) => name.startsWith('ct_insert') || name.startsWith('backend_select'))?.section;
    return this.functions.filter(({ section }) => section !== text);
  }

  /** Bytes of stack that the function itself uses, and the functions that it calls. */
  read(code: Code): { own: number; calls: Code[] } {
    let own = 0;
    const calls: Code[] = [];
    for (let offset = code.from; offset < code.to; offset += INSTRUCTION) {
      const at = (this.#sections[code.section]?.offset ?? 0) + offset;
      const [opcode, registers] = [this.#view.getUint8(at), this.#view.getUint8(at + 1)];
      const immediate = this.#view.getInt32(at + 4, true);
      const kind = opcode & 7;
      const base = kind === 1 ? registers >> 4 : kind === 2 || kind === 3 ? registers & 15 : -1;
      if (base === FRAME_POINTER) own = Math.max(own, -this.#view.getInt16(at + 2, true));
      // Matches "r1 += -40" after "r1 = r10". The same instruction on a register that is not a stack address is counted as well. This
      // can only make the test stricter.
      if (opcode === ADD_IMMEDIATE && immediate >= -STACK) own = Math.max(own, -immediate);
      if (opcode === CALL && registers >> 4 === PSEUDO_CALL) calls.push(...this.#callee(code.section, offset, immediate));
    }
    return { own, calls };
  }

  /** A list with the called function; it is empty for a kernel function. */
  #callee(section: number, offset: number, immediate: number): Code[] {
    const relocated = this.#symbols[this.#relocations.get(`${section}:${offset}`) ?? -1];
    if (relocated?.section === UNDEFINED) return [];
    if (relocated?.type === SYMBOL_FUNCTION) return [relocated];
    // A call of a static function refers to the symbol of its section, or has a relative offset.
    const target = relocated === undefined ? offset + INSTRUCTION * (1 + immediate) : INSTRUCTION * (1 + immediate);
    const there = relocated?.section ?? section;
    return [this.functions.find((code) => code.section === there && code.from === target) ?? expect.fail(`no function at ${target}`)];
  }

  #section(at: number): Section {
    const word = (offset: number): number => this.#view.getUint32(at + offset, true);
    return { type: word(4), offset: this.#long(at + 24), size: this.#long(at + 32), link: word(40), info: word(44) };
  }

  #symbol(at: number, names: number): Code & { type: number } {
    const from = this.#long(at + 8);
    return {
      ...{ name: this.#text(names + this.#view.getUint32(at, true)), type: this.#view.getUint8(at + 4) & 15 },
      ...{ section: this.#view.getUint16(at + 6, true), from, to: from + this.#long(at + 16) },
    };
  }

  #long(at: number): number {
    return Number(this.#view.getBigUint64(at, true));
  }

  #text(at: number): string {
    let end = at;
    while (this.#view.getUint8(end) !== 0) end += 1;
    return new TextDecoder().decode(new Uint8Array(this.#view.buffer, this.#view.byteOffset + at, end - at));
  }
}

/** Stack usage of the deepest chain of calls, with each frame rounded up. */
function depthOf(elf: BpfElf, code: Code, step: number): { bytes: number; chain: string[] } {
  const { own, calls } = elf.read(code);
  const deepest = calls
    .map((callee) => depthOf(elf, callee, step))
    .reduce((a, b) => (b.bytes > a.bytes ? b : a), { bytes: 0, chain: [] as string[] });
  return { bytes: Math.ceil(Math.max(own, 1) / step) * step + deepest.bytes, chain: [`${code.name}:${own}`, ...deepest.chain] };
}

test.for(['tc_pod', 'tc_uplink', 'tc_l3', 'sock', 'explain'])('the programs of %s use less stack than the kernel allows', (object) => {
  const elf = new BpfElf(join(objectsPath, `${object}.bpf.o`));
  const programs = elf.programs();
  expect(programs.length).toBeGreaterThan(1);
  for (const program of programs) {
    const [before, since] = [depthOf(elf, program, 32), depthOf(elf, program, 16)];
    expect(before.bytes, `Linux before 6.9: ${before.chain.join(' > ')}`).toBeLessThanOrEqual(STACK);
    // Sluice limits itself to 400 of the 512 bytes. The kernel allows 8 frames (MAX_CALL_FRAMES).
    expect(since.bytes, since.chain.join(' > ')).toBeLessThanOrEqual(400);
    expect(since.chain.length).toBeLessThanOrEqual(8);
  }
  // The positive control: the calls were found.
  if (object.startsWith('tc_')) expect(depthOf(elf, programs[0] ?? expect.fail(), 16).chain.join()).toMatch(/walk_in_ipv6.*,.*6:/);
});
