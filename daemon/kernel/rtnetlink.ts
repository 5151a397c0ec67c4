// SPDX-License-Identifier: Apache-2.0
// Links, addresses and routes from rtnetlink, as plain rows. It must never change a device, an address or a route. Called by
// source/netlink/, explain/, host/ and bpf/checks.ts. device-routes.ts reads all routes.
import type { KernelError } from '../base/errors.ts';
import { attribute, attributes, NetlinkSocket } from './netlink.ts';

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_GETADDR = 22;
const RTM_GETROUTE = 26;
const RTM_GETADDRLABEL = 74;
const RTMGRP_LINK = 1;
const RTMGRP_IPV4_IFADDR = 0x10;
const RTMGRP_IPV6_IFADDR = 0x100;

const IFLA_ADDRESS = 1;
const IFLA_BROADCAST = 2;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_LINK_NETNSID = 37;
const IFLA_INFO_KIND = 1;

const AF_UNSPEC = 0;
const AF_INET = 2;
const AF_INET6 = 10;
/** Device types, from linux/if_arp.h. */
const ARPHRD = {
  ...{ ETHER: 1, PPP: 512, RAWIP: 519, TUNNEL: 768, TUNNEL6: 769, SIT: 776, IPGRE: 778, IP6GRE: 823, NONE: 65_534 },
} as const;
const greTypes: ReadonlySet<number> = new Set([ARPHRD.IPGRE, ARPHRD.IP6GRE]);
const typesWithoutHeader: ReadonlySet<number> = new Set([
  ...[ARPHRD.PPP, ARPHRD.RAWIP, ARPHRD.TUNNEL, ARPHRD.TUNNEL6, ARPHRD.SIT, ARPHRD.NONE],
]);
const IFF_LOOPBACK = 8;

/**
 * The header of a frame in front of its IP header: Ethernet, none (WireGuard, tun, IP in IP, point-to-point GRE, PPP), or another one
 * (InfiniBand, GRE with several remote ends).
 */
export type LinkHeader = 'ethernet' | 'none' | 'other';

export interface Link {
  readonly ifindex: number;
  readonly name: string;
  /** "veth", "vxlan" and so on; "" for a physical device. */
  readonly kind: string;
  readonly mtu: number;
  readonly linkHeader: LinkHeader;
  readonly isLoopback: boolean;
  /** Link-layer address, such as "02:00:00:00:00:01"; "" if there is none. */
  readonly address: string;
  /** Ifindex of the bridge, bond, VRF or similar device to which the device belongs; 0 if there is none. */
  readonly master: number;
  /** True if the other end or the lower device is in another network namespace. */
  readonly hasPeerElsewhere: boolean;
}

export interface InterfaceAddress {
  readonly ifindex: number;
  /** Length of the prefix of the subnet. */
  readonly prefixLength: number;
  /** The lower bits of IFA_F_*. */
  readonly flags: number;
  /** RT_SCOPE_*: 0 global, 253 link and so on. */
  readonly scope: number;
  /** 4 or 16 bytes in network byte order. */
  readonly address: Uint8Array;
  /** The address of the other end of a point-to-point link; otherwise equal to `address`. */
  readonly peer: Uint8Array;
}

/** An entry of the table of labels by which source addresses are selected (RFC 6724, 2.1; `ip addrlabel`). */
export interface AddressLabel {
  /** 16 bytes. */
  readonly address: Uint8Array;
  readonly prefixLength: number;
  readonly label: number;
}

export interface Route {
  /** RTN_*: 1 unicast, 2 local, 6 blackhole, 7 unreachable and so on. */
  readonly type: number;
  /** Outgoing device; 0 when the route has none. */
  readonly ifindex: number;
}

export type LinkEvent = { readonly kind: 'new'; readonly link: Link } | { readonly kind: 'gone'; readonly ifindex: number };

const text = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes ?? new Uint8Array()).replace(/\0.*$/s, '');
const word = (bytes: Uint8Array | undefined): number =>
  bytes === undefined ? 0 : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** `broadcast` of a GRE device is the address of the remote end. Without a single one, the kernel uses the GRE header as the link header. */
function linkHeaderOf(type: number, broadcast: Uint8Array | undefined): LinkHeader {
  if (type === ARPHRD.ETHER) return 'ethernet';
  if (greTypes.has(type)) return isUnicast(broadcast ?? new Uint8Array()) ? 'none' : 'other';
  return typesWithoutHeader.has(type) ? 'none' : 'other';
}

/** Whether an address of 4 or 16 bytes is neither unspecified nor a multicast address. */
const isUnicast = (address: Uint8Array): boolean =>
  address.some((byte) => byte !== 0) && (address.length === 4 ? (address[0] ?? 0) >> 4 !== 14 : address[0] !== 0xff);

/** struct ifinfomsg: family, pad, type, index, flags, change. */
function linkOf(body: Uint8Array): Link {
  const view = viewOf(body);
  const found = attributes(body.subarray(16));
  return {
    ifindex: view.getInt32(4, true),
    name: text(found.get(IFLA_IFNAME)),
    kind: text(attributes(found.get(IFLA_LINKINFO) ?? new Uint8Array()).get(IFLA_INFO_KIND)),
    mtu: word(found.get(IFLA_MTU)),
    linkHeader: linkHeaderOf(view.getUint16(2, true), found.get(IFLA_BROADCAST)),
    isLoopback: (view.getUint32(8, true) & IFF_LOOPBACK) !== 0,
    address: [...(found.get(IFLA_ADDRESS) ?? [])].map((byte) => byte.toString(16).padStart(2, '0')).join(':'),
    master: word(found.get(IFLA_MASTER)),
    hasPeerElsewhere: found.has(IFLA_LINK_NETNSID),
  };
}

/** struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags; RTA_OIF is 4. */
const routeOf = (body: Uint8Array): Route => ({ type: body[7] ?? 0, ifindex: word(attributes(body.subarray(12)).get(4)) });

function withSocket<T>(work: (socket: NetlinkSocket) => T): T {
  const socket = new NetlinkSocket();
  try {
    return work(socket);
  } finally {
    socket.close();
  }
}

/** All devices of this network namespace. */
export function links(): Link[] {
  return withSocket((socket) => socket.dump(RTM_GETLINK, new Uint8Array(16), 'links')).map((message) => linkOf(message.body));
}

/** All addresses of this network namespace. struct ifaddrmsg: family, prefixlen, flags, scope, index; IFA_LOCAL is 2, IFA_ADDRESS 1. */
export function addresses(): InterfaceAddress[] {
  return withSocket((socket) => socket.dump(RTM_GETADDR, new Uint8Array(8), 'addresses')).map(({ body }) => {
    const found = attributes(body.subarray(8));
    const address = (found.get(2) ?? found.get(1) ?? new Uint8Array()).slice();
    const peer = (found.get(1) ?? address).slice();
    const [, prefixLength = 0, flags = 0, scope = 0] = body;
    return { ifindex: viewOf(body).getUint32(4, true), prefixLength, flags, scope, address, peer };
  });
}

/**
 * The labels of addresses on all devices. struct ifaddrlblmsg: family, reserved, prefixlen, flags, index, seq; IFAL_ADDRESS is 1, IFAL_LABEL
 * is 2. A label for one device is left out.
 */
export function addressLabels(): AddressLabel[] {
  const request = Uint8Array.of(AF_INET6, ...new Uint8Array(11));
  return withSocket((socket) => socket.dump(RTM_GETADDRLABEL, request, 'address labels')).flatMap(({ body }) => {
    const found = attributes(body.subarray(12));
    if (viewOf(body).getUint32(4, true) !== 0) return [];
    return [{ address: (found.get(1) ?? new Uint8Array(16)).slice(), prefixLength: body[2] ?? 0, label: word(found.get(2)) }];
  });
}

/** The route of a packet that this node sends to `address` (4 or 16 bytes). Throws KernelError: ENETUNREACH and similar. */
export function routeTo(address: Uint8Array): Route {
  const header = new Uint8Array(12);
  header[0] = address.length === 4 ? AF_INET : AF_INET6;
  header[1] = address.length * 8;
  const destination = attribute(1, address);
  const body = new Uint8Array(header.length + destination.length);
  body.set(header);
  body.set(destination, header.length);
  const [answer] = withSocket((socket) => socket.request(RTM_GETROUTE, body, 'route'));
  if (answer === undefined) throw new Error('the kernel acknowledged RTM_GETROUTE without a route');
  return routeOf(answer.body);
}

/** Reports devices that appear, change or disappear in the network namespace in which the monitor was created. */
export class LinkMonitor {
  readonly #socket = new NetlinkSocket(RTMGRP_LINK);

  /**
   * `onLost`: events were lost or cannot be received, and nothing is reported any more. The caller must close this monitor, open
   * another one and list the links again.
   */
  listen(onEvent: (event: LinkEvent) => void, onLost: (reason: KernelError) => void): void {
    this.#socket.listen((messages) => {
      for (const { type, body } of messages) {
        // An AF_BRIDGE message means that a device became a bridge port or stopped being one. The device still exists.
        if (body[0] !== AF_UNSPEC) continue;
        if (type === RTM_NEWLINK) onEvent({ kind: 'new', link: linkOf(body) });
        if (type === RTM_DELLINK) onEvent({ kind: 'gone', ifindex: linkOf(body).ifindex });
      }
    }, onLost);
  }

  close(): void {
    this.#socket.close();
  }
}

/**
 * Reports that addresses were added or removed in the network namespace in which the monitor was created. The caller then calls
 * addresses() again.
 */
export class AddressMonitor {
  readonly #socket = new NetlinkSocket(RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR);

  /** `onLost` as in LinkMonitor. */
  listen(onChange: () => void, onLost: (reason: KernelError) => void): void {
    this.#socket.listen(onChange, onLost);
  }

  close(): void {
    this.#socket.close();
  }
}
