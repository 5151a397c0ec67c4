// SPDX-License-Identifier: Apache-2.0
// ApiServerAddress row: an address at which this agent reaches the API server. No Service may take over such an address, because an
// agent that reaches another server instead cannot learn that the Service was deleted. Written by source/ only.
import { hostPort } from './address.ts';

export interface ApiServerAddress {
  /** Canonical. */
  readonly address: string;
  /** 1..65535. */
  readonly port: number;
}

/** "10.0.0.1:6443": the key of the row. */
export const apiServerKey = ({ address, port }: ApiServerAddress): string => hostPort(address, port);
