// SPDX-License-Identifier: Apache-2.0
// Withdraws entries that an earlier process left in the maps and that would take over the connection to the API server. Without it, an
// agent that restarts could not reach the API server, and could therefore never learn that a Service must be withdrawn. Entries that this
// process applied are not touched: the controllers decide about them, and leave out such frontends. Called by the Reconciler, for each
// address of the API server.
import { familyOf, hostPort } from '../../model/address.ts';
import type { ApiServerAddress } from '../../model/api-server.ts';
import { frontendKey } from '../../model/frontend.ts';
import type { Operations } from '../../table/reconciler.ts';
import type { AddressSetOperations } from './address-set-operations.ts';
import type { LbOperations } from './lb-operations.ts';

export interface CaptureOptions {
  readonly ports: Pick<LbOperations, 'withdrawLeftover'>;
  readonly ranges: Pick<AddressSetOperations, 'withdrawAround'>;
  /** The frontends and address sets that were withdrawn: "10.0.0.1:6443/TCP". */
  readonly onWithdrawn: (what: string) => void;
}

export class CaptureOperations implements Operations<string, ApiServerAddress> {
  readonly #options: CaptureOptions;

  constructor(options: CaptureOptions) {
    this.#options = options;
  }

  restore(): void {
    // Nothing to rebuild: this object keeps no copy of the maps.
  }

  update({ address, port }: ApiServerAddress): void {
    const { ports, ranges, onWithdrawn } = this.#options;
    const key = (at: { address: string; port: number }): string => frontendKey({ ...at, protocol: 'TCP' });
    const result = ports.withdrawLeftover(key({ address, port }), familyOf(address));
    if (result === 'withdrawn') onWithdrawn(key({ address, port }));
    if (typeof result === 'object') {
      // The address is a ClusterIP. Packets that are translated to one of its backends are looked up again, so a frontend at the address of
      // a backend would take over the connection too.
      for (const backend of result.backends) {
        if (hostPort(backend.address, backend.port) === hostPort(address, port)) continue;
        if (ports.withdrawLeftover(key(backend), familyOf(address)) === 'withdrawn') onWithdrawn(key(backend));
      }
    } else for (const range of ranges.withdrawAround(address)) onWithdrawn(range);
  }

  delete(): void {
    // Does nothing: withdrawn entries are not restored when an address is no longer used.
  }

  prune(): boolean {
    return true;
  }

  *repair(): Generator<string[], void> {
    // Nothing to compare: the loops of the Service ports and of the address sets compare the maps with the desired state.
  }

  freed(): number {
    return 0;
  }

  freesAt(): undefined {
    return undefined;
  }
}
