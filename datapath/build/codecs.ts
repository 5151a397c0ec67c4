// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Generates the source of daemon/maps/gen/layouts.ts from the BTF of layout.bpf.o: one codec per struct and one const per
// enum, so that each layout is written once, in lib/types.h. Called by build.ts; the daemon never runs it.

interface BtfType {
  readonly id: number;
  readonly kind: string;
  readonly name: string;
  readonly size?: number;
  readonly type_id?: number;
  readonly nr_elems?: number;
  readonly encoding?: string;
  readonly members?: readonly { name: string; type_id: number; bits_offset: number }[];
  readonly values?: readonly { name: string; val: number }[];
}

interface Field {
  readonly name: string;
  readonly type: string;
  readonly encode: string;
  readonly decode: string;
}

const camel = (name: string): string => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
const pascal = (name: string): string => camel(name).replace(/^./, (letter) => letter.toUpperCase());

class Layouts {
  readonly #types: Map<number, BtfType>;

  constructor(types: readonly BtfType[]) {
    this.#types = new Map(types.map((type) => [type.id, type]));
  }

  structs(): BtfType[] {
    return [...this.#types.values()].filter((type) => type.kind === 'STRUCT' && /^(lb\d?|sk\d|tuple\d|flow\d)(_|$)/.test(type.name));
  }

  enums(): BtfType[] {
    return [...this.#types.values()].filter((type) => type.kind === 'ENUM' && type.name !== '(anon)');
  }

  /** The codec of one member; undefined for padding and for members that user space never reads or writes. */
  field(member: { name: string; type_id: number; bits_offset: number }): Field | undefined {
    const name = camel(member.name);
    const at = `at + ${member.bits_offset / 8}`;
    const type = this.#get(member.type_id);
    if (member.name.startsWith('pad')) return undefined;
    if (type.kind === 'TYPEDEF') return this.#typedef(name, type, at);
    if (type.kind === 'ARRAY') return this.#array(name, type, at);
    return undefined;
  }

  #typedef(name: string, type: BtfType, at: string): Field | undefined {
    const number = (method: string, order: string): Field => ({
      name,
      type: 'number',
      encode: `view.set${method}(${at}, row.${name}${order});`,
      decode: `view.get${method}(${at}${order})`,
    });
    switch (type.name) {
      case 'addr4':
      case 'addr6': {
        const size = type.name === 'addr4' ? 4 : 16;
        return { name, type: 'string', encode: `putAddress(view, ${at}, row.${name});`, decode: `getAddress(view, ${at}, ${size})` };
      }
      case '__u8':
        return number('Uint8', '');
      case '__be16':
        return number('Uint16', ', false');
      case '__u16':
        return number('Uint16', ', true');
      case '__u32':
        return number('Uint32', ', true');
      case '__u64':
        return {
          name,
          type: 'bigint',
          encode: `view.setBigUint64(${at}, row.${name}, true);`,
          decode: `view.getBigUint64(${at}, true)`,
        };
      default:
        throw new Error(`lib/types.h: no codec for a member of type ${type.name}`);
    }
  }

  #array(name: string, type: BtfType, at: string): Field | undefined {
    const element = this.#get(type.type_id ?? 0);
    const count = type.nr_elems ?? 0;
    switch (element.name) {
      case '__u8':
        return { name, type: 'Uint8Array', encode: `putBytes(view, ${at}, row.${name});`, decode: `getBytes(view, ${at}, ${count})` };
      case '__u32':
        return { name, type: 'number[]', encode: `putWords(view, ${at}, row.${name});`, decode: `getWords(view, ${at}, ${count})` };
      case '__u64':
        return { name, type: 'bigint[]', encode: `putLongs(view, ${at}, row.${name});`, decode: `getLongs(view, ${at}, ${count})` };
      default:
        throw new Error(`lib/types.h: no codec for an array of ${element.name}`);
    }
  }

  #get(id: number): BtfType {
    const type = this.#types.get(id);
    if (type === undefined) throw new Error(`the BTF refers to type ${id} but does not define it`);
    return type;
  }
}

function structSource(struct: BtfType, layouts: Layouts): string {
  const fields = (struct.members ?? []).map((member) => layouts.field(member)).filter((field) => field !== undefined);
  const offsets = (struct.members ?? []).map((member) => `${JSON.stringify(member.name)}: ${member.bits_offset / 8}`);
  return [
    `/** struct ${struct.name} */`,
    `export interface ${pascal(struct.name)} {`,
    ...fields.map((field) => `  ${field.name}: ${field.type};`),
    `}`,
    `export const ${camel(struct.name)}Codec: Codec<${pascal(struct.name)}> = {`,
    `  name: ${JSON.stringify(struct.name)},`,
    `  size: ${struct.size},`,
    `  offsets: { ${offsets.join(', ')} },`,
    `  encode(row, view, at = 0) {`,
    ...fields.map((field) => `    ${field.encode}`),
    `  },`,
    `  decode: (view, at = 0) => ({`,
    ...fields.map((field) => `    ${field.name}: ${field.decode},`),
    `  }),`,
    `};`,
  ].join('\n');
}

function enumSource(type: BtfType): string {
  const values = type.values ?? [];
  return [
    `/** enum ${type.name} */`,
    `export const ${pascal(type.name)} = { ${values.map((value) => `${value.name}: ${value.val}`).join(', ')} } as const;`,
  ].join('\n');
}

/** The TypeScript source of the codecs, from the output of `bpftool -j btf dump`. */
export function codecSource(btfDump: string): string {
  const { types } = JSON.parse(btfDump) as { types: BtfType[] };
  const layouts = new Layouts(types);
  const structs = layouts.structs().filter((struct) => struct.name !== 'lb_scratch');
  return [
    `// SPDX-License-Identifier: Apache-2.0\n// Generated by datapath/build/codecs.ts from the BTF of datapath/layout.bpf.c. Do not edit: npm run build.`,
    `import { type Codec, getAddress, getBytes, getLongs, getWords, putAddress, putBytes, putLongs, putWords } from '../codec.ts';`,
    ...layouts.enums().map(enumSource),
    ...structs.map((struct) => structSource(struct, layouts)),
    `export const codecs = [${structs.map((struct) => `${camel(struct.name)}Codec`).join(', ')}] as const;`,
    '',
  ].join('\n\n');
}
