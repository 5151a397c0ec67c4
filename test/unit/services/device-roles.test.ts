// SPDX-License-Identifier: Apache-2.0
// The roles of devices, as a table of nodes as they occur: each with its devices, as `ip -d link`, `ip address` and `ip route show table all`
// describe them, and the role that each device must have. With `auto`, no device of these nodes needs to be named.
import { describe, expect, test } from 'vitest';
import { type DeviceFacts, type DeviceSettings, otherLinkHeader } from '../../../daemon/model/device.ts';
import { deviceRoles } from '../../../daemon/services/desired/device-roles.ts';

/** A device by name. `in` is the name of its master. */
type Device = Partial<DeviceFacts> & { readonly name: string; readonly in?: string };

const plain: Omit<DeviceFacts, 'ifindex' | 'name' | 'master'> = {
  ...{ kind: '', linkHeader: 'ethernet', isLoopback: false, hasPeerElsewhere: false, address: '', appearance: 1 },
  ...{ hasRoute: false, hasGateway: false, hasDefault: false, hasSubnet: false },
};

// What routes and addresses say about a device.
const defaultRoute = { hasRoute: true, hasGateway: true, hasDefault: true, hasSubnet: true };
const subnet = { hasRoute: true, hasSubnet: true };
const hostRoute = { hasRoute: true };
const gateway = { hasRoute: true, hasGateway: true };
/** IPv4 or IPv6 packets without a link layer header: WireGuard, tun, ipip. */
const noHeader = { linkHeader: 'none' } as const;
/** InfiniBand, GRE with several remote ends. */
const otherHeader = { linkHeader: 'other' } as const;

const lo: Device = { name: 'lo', isLoopback: true, linkHeader: 'other' };
const veth = (name: string, more: Partial<Device> = {}): Device => ({ name, kind: 'veth', hasPeerElsewhere: true, ...more });
const pairHere = (name: string, more: Partial<Device> = {}): Device => ({ name, kind: 'veth', ...more });
const bridge = (name: string, more: Partial<Device> = {}): Device => ({ name, kind: 'bridge', ...more });

const auto: DeviceSettings = { podInterfaces: 'auto', uplinks: 'auto' };

/** "eth0 uplink: default route" for each device. */
function rolesOf(devices: readonly Device[], settings = auto): string[] {
  const indexOf = (name: string | undefined): number => devices.findIndex((device) => device.name === name) + 1;
  const facts = devices.map(({ in: master, ...device }): DeviceFacts => {
    return { ...plain, ...device, ifindex: indexOf(device.name), master: indexOf(master) };
  });
  return deviceRoles(facts, settings).map(({ name, role, reason }) => `${name} ${role}: ${reason}`);
}

const loIs = 'lo none: loopback';
const eth0: Device = { name: 'eth0', ...defaultRoute };
const eth0Is = 'eth0 uplink: default route';
const podIs = 'pod: the other end is in another network namespace';

interface Case {
  readonly name: string;
  readonly devices: readonly Device[];
  readonly want: readonly string[];
  readonly settings?: DeviceSettings;
}

const nodes: readonly Case[] = [
  {
    name: 'kind: the node is a container whose uplink is a veth; kindnet gives the node end of each pod an address with /32',
    devices: [lo, veth('eth0', defaultRoute), veth('veth1a2b', hostRoute), veth('veth3c4d', hostRoute)],
    want: [loIs, eth0Is, `veth1a2b ${podIs}`, `veth3c4d ${podIs}`],
  },
  {
    name: 'k3d: the node is a container with flannel, and the pods are behind cni0',
    devices: [
      ...[lo, veth('eth0', defaultRoute), { name: 'flannel.1', kind: 'vxlan', ...gateway, hasSubnet: true }],
      ...[bridge('cni0', subnet), veth('veth5', { in: 'cni0' }), veth('veth6', { in: 'cni0' })],
    ],
    want: [
      ...[loIs, eth0Is, 'flannel.1 uplink: route with a gateway', 'cni0 none: a bridge, whose ports have the programs'],
      ...[`veth5 ${podIs}, port of cni0`, `veth6 ${podIs}, port of cni0`],
    ],
  },
  {
    name: 'flannel on a machine: flannel.1 has an address with /32',
    devices: [lo, eth0, { name: 'flannel.1', kind: 'vxlan', ...gateway }, bridge('cni0', subnet), veth('veth5', { in: 'cni0' })],
    want: [
      ...[loIs, eth0Is, 'flannel.1 uplink: route with a gateway', 'cni0 none: a bridge, whose ports have the programs'],
      `veth5 ${podIs}, port of cni0`,
    ],
  },
  {
    name: 'flannel before the first pod',
    devices: [lo, eth0, bridge('cni0', subnet)],
    want: [loIs, eth0Is, 'cni0 none: a bridge without ports'],
  },
  {
    name: 'the ptp plugin, with the route to the pod and the address of the gateway on each veth',
    devices: [lo, eth0, veth('vethab', hostRoute), veth('vethcd')],
    want: [loIs, eth0Is, `vethab ${podIs}`, `vethcd ${podIs}`],
  },
  {
    name: 'Calico with VXLAN',
    devices: [lo, eth0, { name: 'vxlan.calico', kind: 'vxlan', ...gateway }, veth('cali1234', hostRoute), veth('cali5678', hostRoute)],
    want: [loIs, eth0Is, 'vxlan.calico uplink: route with a gateway', `cali1234 ${podIs}`, `cali5678 ${podIs}`],
  },
  {
    name: 'Calico with IP in IP',
    devices: [lo, eth0, { name: 'tunl0', kind: 'ipip', ...gateway, ...noHeader }, veth('cali1234', hostRoute)],
    want: [loIs, eth0Is, 'tunl0 uplink: route with a gateway', `cali1234 ${podIs}`],
  },
  {
    name: 'Calico with BGP, whose routes to other nodes lead out of the uplink; the tunnel devices are idle',
    devices: [
      lo,
      eth0,
      { name: 'tunl0', kind: 'ipip', ...noHeader },
      { name: 'ip6tnl0', kind: 'ip6tnl', ...noHeader },
      veth('cali1', hostRoute),
    ],
    want: [loIs, eth0Is, 'tunl0 none: no route leads through it', 'ip6tnl0 none: no route leads through it', `cali1 ${podIs}`],
  },
  {
    name: 'Cilium: pods have no route of their own, and cilium_host and cilium_net are a pair in the node',
    devices: [
      ...[lo, eth0, pairHere('cilium_net'), pairHere('cilium_host', gateway), { name: 'cilium_vxlan', kind: 'vxlan' }],
      ...[veth('lxc_health'), veth('lxc1a2b')],
    ],
    want: [
      ...[loIs, eth0Is, 'cilium_net none: no route leads through it', 'cilium_host uplink: route with a gateway'],
      ...['cilium_vxlan none: no route leads through it', `lxc_health ${podIs}`, `lxc1a2b ${podIs}`],
    ],
  },
  {
    name: 'Cilium with netkit devices',
    devices: [lo, eth0, { name: 'lxc1a2b', kind: 'netkit', hasPeerElsewhere: true, ...hostRoute }],
    want: [loIs, eth0Is, `lxc1a2b ${podIs}`],
  },
  {
    name: 'Amazon VPC CNI: two network interfaces, the second with a default route in a table of its own, and pods with /32 routes',
    devices: [lo, eth0, { name: 'eth1', ...gateway, hasDefault: true }, veth('eni1', hostRoute), veth('eni2', hostRoute)],
    want: [loIs, eth0Is, 'eth1 uplink: default route', `eni1 ${podIs}`, `eni2 ${podIs}`],
  },
  {
    name: 'Amazon VPC CNI with security groups for pods: a VLAN of the trunk interface per pod',
    devices: [lo, eth0, { name: 'eth1' }, { name: 'vlan.eth.1', kind: 'vlan', ...gateway, hasDefault: true }, veth('vlan1a2b', hostRoute)],
    want: [loIs, eth0Is, 'eth1 none: no route leads through it', 'vlan.eth.1 uplink: default route', `vlan1a2b ${podIs}`],
  },
  {
    name: 'a bond with a VLAN as uplink',
    devices: [
      ...[lo, { name: 'eno1', in: 'bond0' }, { name: 'eno2', in: 'bond0' }, { name: 'bond0', kind: 'bond' }],
      { name: 'bond0.100', kind: 'vlan', ...defaultRoute },
    ],
    want: [
      ...[loIs, 'eno1 none: port of bond0', 'eno2 none: port of bond0', 'bond0 none: no route leads through it'],
      'bond0.100 uplink: default route',
    ],
  },
  {
    name: 'a bond with an address of its own beside its VLAN: a tagged packet is left to the VLAN',
    devices: [
      lo,
      { name: 'eno1', in: 'bond0' },
      { name: 'bond0', kind: 'bond', ...defaultRoute },
      { name: 'bond0.5', kind: 'vlan', ...subnet },
    ],
    want: [loIs, 'eno1 none: port of bond0', 'bond0 uplink: default route', 'bond0.5 uplink: route without a gateway'],
  },
  {
    name: 'a bridge as uplink, with a physical port and virtual machines (libvirt)',
    devices: [lo, { name: 'eno1', in: 'br0' }, { name: 'vnet0', kind: 'tun', in: 'br0' }, bridge('br0', defaultRoute)],
    want: [loIs, 'eno1 none: port of br0', 'vnet0 none: port of br0', 'br0 uplink: default route'],
  },
  {
    name: 'a bridge as uplink whose only port is a veth, in a node that is itself a container',
    devices: [lo, veth('eth0', { in: 'br-ex' }), bridge('br-ex', defaultRoute)],
    want: [loIs, 'eth0 none: port of br-ex', 'br-ex uplink: default route'],
  },
  {
    name: 'a bridge as uplink over a bond',
    devices: [lo, { name: 'eno1', in: 'bond0' }, { name: 'bond0', kind: 'bond', in: 'br0' }, bridge('br0', defaultRoute)],
    want: [loIs, 'eno1 none: port of bond0', 'bond0 none: port of br0', 'br0 uplink: default route'],
  },
  {
    name: 'a bridge with the physical device and the pods (Azure in bridge mode): the ports have the programs',
    devices: [lo, { name: 'eth0', in: 'azure0' }, bridge('azure0', defaultRoute), veth('azv1', { in: 'azure0' })],
    want: [
      ...[loIs, 'eth0 uplink: port of azure0, beside pods', 'azure0 none: a bridge, whose ports have the programs'],
      `azv1 ${podIs}, port of azure0`,
    ],
  },
  {
    name: 'a bridge of pods that no route leads out of: its physical port is no uplink',
    devices: [lo, eth0, { name: 'eth1', in: 'br1' }, bridge('br1'), veth('veth1', { in: 'br1' })],
    want: [loIs, eth0Is, 'eth1 none: port of br1', 'br1 none: a bridge, whose ports have the programs', `veth1 ${podIs}, port of br1`],
  },
  {
    name: 'two bridges of pods that a pair in the node connects',
    devices: [
      ...[lo, eth0, bridge('br1', subnet), pairHere('patch1', { in: 'br1' }), veth('veth1', { in: 'br1' })],
      ...[bridge('br2'), pairHere('patch2', { in: 'br2' }), veth('veth2', { in: 'br2' })],
    ],
    want: [
      ...[loIs, eth0Is, 'br1 none: a bridge, whose ports have the programs', 'patch1 none: port of br1', `veth1 ${podIs}, port of br1`],
      ...['br2 none: a bridge, whose ports have the programs', 'patch2 none: port of br2', `veth2 ${podIs}, port of br2`],
    ],
  },
  {
    name: 'Open vSwitch with br-ex (OVN): the internal port has the address, and the switch forwards between its ports by its own rules',
    devices: [
      ...[lo, { name: 'ovs-system', kind: 'openvswitch' }, { name: 'eth0', in: 'ovs-system' }],
      ...[{ name: 'br-ex', kind: 'openvswitch', ...defaultRoute }, veth('pod1_1', { in: 'ovs-system' })],
      { name: 'ovn-k8s-mp0', kind: 'openvswitch', ...subnet },
    ],
    want: [
      ...[loIs, 'ovs-system none: no route leads through it', 'eth0 none: port of ovs-system', 'br-ex uplink: default route'],
      ...['pod1_1 none: port of ovs-system', 'ovn-k8s-mp0 uplink: route without a gateway'],
    ],
  },
  {
    name: 'docker0 without and with a container, beside pods with /32 routes',
    devices: [lo, eth0, bridge('docker0', subnet), bridge('br-1a2b', subnet), veth('veth9', { in: 'br-1a2b' }), veth('cali1', hostRoute)],
    want: [
      ...[loIs, eth0Is, 'docker0 none: a bridge without ports', 'br-1a2b none: a bridge, whose ports have the programs'],
      ...[`veth9 ${podIs}, port of br-1a2b`, `cali1 ${podIs}`],
    ],
  },
  {
    name: 'WireGuard and a tun device',
    devices: [
      ...[lo, eth0, { name: 'wg0', kind: 'wireguard', ...subnet, ...noHeader }],
      ...[
        { name: 'tun0', kind: 'tun', ...gateway, ...noHeader },
        { name: 'tap0', kind: 'tun', ...subnet },
      ],
    ],
    want: [
      loIs,
      eth0Is,
      'wg0 uplink: route without a gateway',
      'tun0 uplink: route with a gateway',
      'tap0 uplink: route without a gateway',
    ],
  },
  {
    name: 'InfiniBand and GRE with several remote ends, which have link-layer headers of their own',
    devices: [lo, eth0, { name: 'ib0', ...subnet, ...otherHeader }, { name: 'gre1', kind: 'gre', ...subnet, ...otherHeader }],
    want: [loIs, eth0Is, `ib0 none: ${otherLinkHeader}`, `gre1 none: ${otherLinkHeader}`],
  },
  {
    name: 'Geneve and VXLAN of other plugins',
    devices: [lo, eth0, { name: 'genev_sys', kind: 'geneve', ...subnet }, { name: 'antrea-gw0', kind: 'openvswitch', ...subnet }],
    want: [loIs, eth0Is, 'genev_sys uplink: route without a gateway', 'antrea-gw0 uplink: route without a gateway'],
  },
  {
    name: 'a virtual machine with one network interface and no pods',
    devices: [lo, { ...eth0, name: 'ens3' }],
    want: [loIs, 'ens3 uplink: default route'],
  },
  {
    name: 'no default route at all',
    devices: [lo, { name: 'eth0', ...subnet }, veth('cali1', hostRoute)],
    want: [loIs, 'eth0 uplink: route without a gateway', `cali1 ${podIs}`],
  },
  {
    name: 'no default route, and the uplink is a veth with an address of a subnet',
    devices: [lo, veth('eth0', subnet), veth('veth1', hostRoute)],
    want: [loIs, 'eth0 uplink: route without a gateway', `veth1 ${podIs}`],
  },
  {
    name: 'an uplink that is a veth with a /32 address and a gateway',
    devices: [lo, veth('eth0', gateway)],
    want: [loIs, 'eth0 uplink: route with a gateway'],
  },
  {
    name: 'an uplink that is down keeps its address, and its routes are gone',
    devices: [lo, veth('eth0', { hasSubnet: true }), { name: 'eth1', hasSubnet: true }],
    want: [loIs, 'eth0 uplink: route without a gateway', 'eth1 uplink: route without a gateway'],
  },
  {
    name: 'a VRF: the routes of its table lead out of its members',
    devices: [
      ...[lo, { name: 'eth0', in: 'blue', ...defaultRoute }, { name: 'blue', kind: 'vrf', ...hostRoute }],
      veth('veth1', { in: 'blue', ...hostRoute }),
    ],
    want: [loIs, eth0Is, 'blue none: a VRF, whose members have the programs', `veth1 ${podIs}`],
  },
  {
    name: 'devices of node-local DNS, IPVS and a macvlan device of the node',
    devices: [
      ...[lo, eth0, { name: 'nodelocaldns', kind: 'dummy' }, { name: 'kube-ipvs0', kind: 'dummy' }],
      { name: 'macvlan0', kind: 'macvlan', ...hostRoute },
    ],
    want: [
      ...[loIs, eth0Is, 'nodelocaldns none: no route leads through it', 'kube-ipvs0 none: no route leads through it'],
      'macvlan0 uplink: route without a gateway',
    ],
  },
  {
    name: 'a node that is a container with a macvlan or ipvlan device as uplink: its lower device is in another namespace',
    devices: [lo, { name: 'eth0', kind: 'macvlan', hasPeerElsewhere: true, ...defaultRoute }],
    want: [loIs, eth0Is],
  },
];

describe('with auto', () => {
  test.for(nodes)('$name', ({ devices, want }) => {
    expect(rolesOf(devices)).toEqual(want);
    // The role does not depend on the order in which the devices are listed.
    expect(rolesOf(devices.toReversed())).toEqual(want.toReversed());
  });

  test('no path has programs on a port and on its bridge or bond', () => {
    for (const { devices } of nodes) {
      const withPrograms = rolesOf(devices)
        .filter((text) => !/^\S+ none/.test(text))
        .map((text) => text.split(' ')[0]);
      const both = devices.filter(({ name, in: master }) => {
        const isVrf = devices.some((device) => device.name === master && device.kind === 'vrf');
        return !isVrf && withPrograms.includes(name) && withPrograms.includes(master);
      });
      expect(both).toEqual([]);
    }
  });
});

const flannel: readonly Device[] = [
  ...[lo, eth0, { name: 'flannel.1', kind: 'vxlan', ...gateway }],
  ...[bridge('cni0', subnet), veth('veth5', { in: 'cni0' }), veth('other1', hostRoute)],
];

const named: readonly Case[] = [
  {
    name: 'prefixes and names win over what would be found',
    settings: { podInterfaces: ['veth'], uplinks: ['flannel.1'] },
    devices: flannel,
    want: [
      ...[loIs, 'eth0 none: not named by --uplinks', 'flannel.1 uplink: named by --uplinks'],
      ...['cni0 none: a bridge, whose ports have the programs', 'veth5 pod: named by --pod-interfaces'],
      'other1 none: not named by --pod-interfaces',
    ],
  },
  {
    name: 'prefixes of pod interfaces with uplinks that are found',
    settings: { podInterfaces: ['other'], uplinks: 'auto' },
    devices: flannel,
    want: [
      ...[loIs, eth0Is, 'flannel.1 uplink: route with a gateway', 'cni0 uplink: route without a gateway'],
      ...['veth5 none: not named by --pod-interfaces', 'other1 pod: named by --pod-interfaces'],
    ],
  },
  {
    name: 'pod interfaces that are found with names of uplinks',
    settings: { podInterfaces: 'auto', uplinks: ['eth0', 'wg0', 'ib0'] },
    devices: [...flannel, { name: 'wg0', kind: 'wireguard', ...subnet, ...noHeader }, { name: 'ib0', ...subnet, ...otherHeader }],
    want: [
      ...[loIs, 'eth0 uplink: named by --uplinks', 'flannel.1 none: not named by --uplinks'],
      ...['cni0 none: a bridge, whose ports have the programs', `veth5 ${podIs}, port of cni0`, `other1 ${podIs}`],
      ...['wg0 uplink: named by --uplinks', `ib0 none: ${otherLinkHeader}`],
    ],
  },
  {
    name: 'a veth that is named as uplink is no pod interface',
    settings: { podInterfaces: 'auto', uplinks: ['other1'] },
    devices: [lo, veth('other1', hostRoute), veth('veth1', hostRoute)],
    want: [loIs, 'other1 uplink: named by --uplinks', `veth1 ${podIs}`],
  },
  {
    name: 'a veth of the prefix counts also if its other end is in the node, and another kind of device never counts',
    settings: { podInterfaces: ['lxc'], uplinks: 'auto' },
    devices: [lo, eth0, pairHere('lxc1', subnet), { name: 'lxc2', kind: 'vxlan' }],
    want: [loIs, eth0Is, 'lxc1 pod: named by --pod-interfaces', 'lxc2 none: no route leads through it'],
  },
  {
    name: 'no programs at all',
    settings: { podInterfaces: [], uplinks: [] },
    devices: [lo, eth0, veth('veth1', hostRoute)],
    want: [loIs, 'eth0 none: not named by --uplinks', 'veth1 none: not named by --pod-interfaces'],
  },
];

test.for(named)('$name', ({ devices, settings, want }) => {
  expect(rolesOf(devices, settings)).toEqual(want);
});
