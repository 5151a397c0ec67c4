// SPDX-License-Identifier: Apache-2.0
// The matrix of one topology: every combination of a setting, an address family, a kind of socket, a client, a kind of frontend and a
// backend. Also rows of text that name many cells, such as "off | * | tcp | pod | ClusterIP,NodePort | near". Pure; it does not know
// addresses or results.

const axes = {
  /** The flag --socket-lb of the daemon. */
  socketLb: ['off', 'on'],
  family: ['IPv4', 'IPv6'],
  /** The kind of socket; "udp" is a socket that is not connected. */
  kind: ['tcp', 'udp', 'connected'],
  from: ['pod', 'node', 'outside'],
  /** The frontends with "-Local" have the external traffic policy Local. */
  frontend: ['ClusterIP', 'NodePort', 'LoadBalancer', 'NodePort-Local', 'LoadBalancer-Local'],
  /** A pod of the same node, a pod of the other node, a process of this or the other node in the host network, the client itself. */
  backend: ['near', 'far', 'host', 'far-host', 'own'],
} as const;

type Axis = keyof typeof axes;

export type Cell = { readonly [A in Axis]: (typeof axes)[A][number] };

const names = Object.keys(axes) as Axis[];

/** A backend on the other node has no answer under the policy Local, and only the pod is a client and a backend at the same time. */
const exists = ({ from, frontend, backend }: Cell): boolean =>
  (!frontend.endsWith('-Local') || backend === 'near' || backend === 'host') && (backend !== 'own' || from === 'pod');

type Values = Readonly<Record<Axis, readonly string[]>>;

/** The cells of a product of values. */
function product(values: Values): Cell[] {
  const all = names.reduce<Record<string, string>[]>(
    (cells, axis) => cells.flatMap((cell) => values[axis].map((value) => ({ ...cell, [axis]: value }))),
    [{}],
  );
  return (all as unknown as Cell[]).filter(exists);
}

export const cells: readonly Cell[] = product(axes);

/** The row of text that names one cell. It identifies the cell. */
export const nameOf = (cell: Cell): string => names.map((axis) => cell[axis]).join(' | ');

/** The cells that a row names. A field lists values with commas; "*" is any value. Throws if the row is malformed or names no cell. */
export function cellsOf(row: string): Cell[] {
  const fields = row.split('|').map((field) => field.trim());
  if (fields.length !== names.length) throw new Error(`"${row}" must have ${names.length} fields: ${names.join(' | ')}`);
  const valueOf = (axis: Axis, field: string): readonly string[] => {
    const known: readonly string[] = axes[axis];
    const listed = field === '*' ? known : field.split(',');
    const wrong = listed.find((value) => !known.includes(value));
    if (wrong !== undefined) throw new Error(`"${row}": "${wrong}" is not a value of ${axis}; the values are ${known.join(', ')}`);
    return listed;
  };
  const found = product(Object.fromEntries(names.map((axis, n) => [axis, valueOf(axis, fields[n] ?? '')])) as unknown as Values);
  if (found.length === 0) throw new Error(`"${row}" names no cell`);
  return found;
}

/** Rows that together name exactly these cells, each once: a row begins with one cell and grows by values that add only such cells. */
export function rowsOf(named: readonly Cell[]): string[] {
  const left = new Set(named.map(nameOf));
  const rows: string[] = [];
  for (const cell of named) {
    if (!left.has(nameOf(cell))) continue;
    let values = Object.fromEntries(names.map((axis) => [axis, [cell[axis]]])) as unknown as Values;
    for (const axis of names) {
      for (const value of axes[axis]) {
        if (values[axis].includes(value)) continue;
        const grown = { ...values, [axis]: axes[axis].filter((each) => each === value || values[axis].includes(each)) };
        const covered = product(grown);
        if (covered.length > product(values).length && covered.every((each) => left.has(nameOf(each)))) values = grown;
      }
    }
    for (const covered of product(values)) left.delete(nameOf(covered));
    rows.push(names.map((axis) => (values[axis].length === axes[axis].length ? '*' : values[axis].join(','))).join(' | '));
  }
  return rows;
}
