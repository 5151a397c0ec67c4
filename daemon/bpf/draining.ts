// SPDX-License-Identifier: Apache-2.0
// Counts the flows that are open in pinned maps, without a daemon. Reads only. Called by offline/uninstall.ts.
import { existsSync } from 'node:fs';
import { finish } from '../base/slices.ts';
import { isBpffs } from '../kernel/host.ts';
import { BpfMap, closeFd, isDirectory, objectKind, openPin } from '../kernel/map.ts';
import { layoutVersion, readPhase } from '../maps/datapath-state.ts';
import { flow4Codec, flow6Codec, Layout, lbConfigCodec } from '../maps/gen/layouts.ts';
import { countOpenFlows } from '../maps/read/open-flows.ts';
import type { OpenFlows } from '../model/phase.ts';
import { PinDirectory } from './pins.ts';

const none = { entries: () => [].values() };

/** The open flows if the datapath drains; undefined if it does not drain, or if the maps are not of this version. */
export function openFlowsOfPins(pinPath: string): OpenFlows | undefined {
  if (!existsSync(pinPath) || !isBpffs(pinPath)) return undefined;
  const pins = new PinDirectory(pinPath);
  const opened = new Map<string, BpfMap>();
  for (const { name, size } of [
    { name: 'lb_config', size: lbConfigCodec.size },
    { name: 'ct4', size: flow4Codec.size },
    { name: 'ct6', size: flow6Codec.size },
  ]) {
    const map = openMap(pins.pathOf('maps', name), size);
    if (map !== undefined) opened.set(name, map);
  }
  try {
    const config = opened.get('lb_config');
    if (config === undefined || layoutVersion(config) !== Layout.LAYOUT_VERSION || readPhase(config) !== 'draining') return undefined;
    return finish(countOpenFlows((name) => opened.get(name) ?? none));
  } finally {
    for (const map of opened.values()) map.close();
  }
}

/** The pinned map; undefined if there is none with values of this size. */
function openMap(path: string, valueSize: number): BpfMap | undefined {
  const fd = isDirectory(path) ? undefined : openPin(path);
  if (fd === undefined) return undefined;
  if (objectKind(fd) !== 'map') {
    closeFd(fd);
    return undefined;
  }
  const map = new BpfMap(fd);
  if (map.info.valueSize === valueSize) return map;
  map.close();
  return undefined;
}
