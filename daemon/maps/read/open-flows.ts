// SPDX-License-Identifier: Apache-2.0
// Counts the flows that are open: those whose packets need the programs. Reads the flow tables only. It must judge the end of a flow as
// flow_has_expired() and flow_is_closed() in datapath/lib/flow.h do. Called by bpf/ while the datapath drains, and by uninstall.
import type { Steps } from '../../base/slices.ts';
import type { OpenFlows } from '../../model/phase.ts';
import type { Codec } from '../codec.ts';
import { FlowFlags, flow4Codec, flow6Codec, FlowRow } from '../gen/layouts.ts';

/** Idle times in units of flow_now(), 2^32 ns. */
const idle = { unconfirmed: 3, unanswered: 28, udp: 28, established: 100_584 };
const FLOW_NOW_BITS = 32n;
/** Rows between two places to pause. */
const ROWS_PER_STEP = 256;
const protocols: Readonly<Record<number, keyof OpenFlows>> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };
const closedBothSides = FlowFlags.FLOW_CLIENT_FIN | FlowFlags.FLOW_BACKEND_FIN;

/** A flow table, and the codec of its values. */
interface FlowTable {
  readonly entries: () => IterableIterator<readonly [Uint8Array, Uint8Array]>;
  readonly codec: Codec<unknown>;
}

interface FlowMap {
  entries(): IterableIterator<readonly [Uint8Array, Uint8Array]>;
}

const flowNow = (): number => Number(process.hrtime.bigint() >> FLOW_NOW_BITS);

/** Counts the flows of both families. `open` returns the maps ct4 and ct6. */
export function* countOpenFlows(open: (name: 'ct4' | 'ct6') => FlowMap): Steps<OpenFlows> {
  const counts = { tcp: 0, udp: 0, sctp: 0 };
  const tables: FlowTable[] = [
    { entries: () => open('ct4').entries(), codec: flow4Codec },
    { entries: () => open('ct6').entries(), codec: flow6Codec },
  ];
  let rows = 0;
  for (const { entries, codec } of tables) {
    const openProtocol = judgeOf(codec, flowNow());
    for (const [, value] of entries()) {
      const protocol = openProtocol(value);
      if (protocol !== undefined) counts[protocol] += 1;
      rows += 1;
      if (rows % ROWS_PER_STEP === 0) yield undefined;
    }
  }
  return counts;
}

/** Returns a function with the protocol of an open flow; undefined for a flow that is over, and for all rows of a flow except one. */
function judgeOf({ offsets }: Codec<unknown>, now: number): (value: Uint8Array) => keyof OpenFlows | undefined {
  const at = (member: string): number => {
    const offset = offsets[member];
    if (offset === undefined) throw new Error(`the flow has no member ${member}`);
    return offset;
  };
  const [row, flags, seen, protocol] = [at('row'), at('flags'), at('seen'), at('protocol')];
  return (value) => {
    if (value[row] !== FlowRow.ROW_INNER) return undefined;
    const view = new DataView(value.buffer, value.byteOffset);
    const bits = view.getUint32(flags, true);
    const name = protocols[value[protocol] ?? 0];
    const isClosed = (bits & FlowFlags.FLOW_RST) !== 0 || (bits & closedBothSides) === closedBothSides;
    const limit =
      (bits & FlowFlags.FLOW_CONFIRMED) === 0
        ? idle.unconfirmed
        : name === 'udp'
          ? idle.udp
          : (bits & FlowFlags.FLOW_ANSWERED) === 0
            ? idle.unanswered
            : idle.established;
    const isOver = (name !== 'udp' && isClosed) || now - view.getUint32(seen, true) > limit;
    return isOver ? undefined : name;
  };
}
