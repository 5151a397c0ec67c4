// SPDX-License-Identifier: Apache-2.0
// What rtnetlink says of links, addresses, routes and neighbours, as plain rows. Reads only; a pod's interface is made
// elsewhere. Called by loader/ (devices that come and go) and the host checks.
import { attribute, attributes, type NetlinkMessage, NetlinkSocket } from './netlink.ts';

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_GETADDR = 22;
const RTM_GETROUTE = 26;
const RTM_GETNEIGH = 30;
const RTMGRP_LINK = 1;
const RTMGRP_IPV4_IFADDR = 0x10;
const RTMGRP_IPV6_IFADDR = 0x100;

const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_LINKINFO = 18;
const IFLA_INFO_KIND = 1;

const AF_UNSPEC = 0;
const AF_INET = 2;
const AF_INET6 = 10;
const ARPHRD_ETHER = 1;
const IFF_UP = 1;

export interface Link {
  readonly ifindex: number;
  readonly name: string;
  /** "veth", "vxlan" ...; "" for a physical device. */
  readonly kind: string;
  readonly mac: Uint8Array;
  readonly mtu: number;
  readonly isUp: boolean;
  /** Carries Ethernet frames, as the tc programs expect. */
  readonly isEthernet: boolean;
}

export interface InterfaceAddress {
  readonly ifindex: number;
  /** 4 or 16 bytes, network order. */
  readonly address: Uint8Array;
  readonly prefixLength: number;
}

export interface Route {
  /** RTN_*: 1 unicast, 2 local, 6 blackhole, 7 unreachable ... */
  readonly type: number;
  readonly table: number;
  /** Empty: the default route. */
  readonly destination: Uint8Array;
  readonly prefixLength: number;
  readonly gateway: Uint8Array | undefined;
  /** Outgoing device; 0 when it has none. */
  readonly ifindex: number;
}

export interface Neighbour {
  readonly ifindex: number;
  readonly address: Uint8Array;
  readonly mac: Uint8Array | undefined;
  /** NUD_*. */
  readonly state: number;
}

export type LinkEvent = { readonly kind: 'new'; readonly link: Link } | { readonly kind: 'gone'; readonly ifindex: number };

const text = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes ?? new Uint8Array()).replace(/\0.*$/s, '');
const word = (bytes: Uint8Array | undefined): number =>
  bytes === undefined ? 0 : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** struct ifinfomsg: family, pad, type, index, flags, change. */
function linkOf(body: Uint8Array): Link {
  const view = viewOf(body);
  const found = attributes(body.subarray(16));
  return {
    ifindex: view.getInt32(4, true),
    name: text(found.get(IFLA_IFNAME)),
    kind: text(attributes(found.get(IFLA_LINKINFO) ?? new Uint8Array()).get(IFLA_INFO_KIND)),
    mac: found.get(IFLA_ADDRESS)?.slice() ?? new Uint8Array(),
    mtu: word(found.get(IFLA_MTU)),
    isUp: (view.getUint32(8, true) & IFF_UP) !== 0,
    isEthernet: view.getUint16(2, true) === ARPHRD_ETHER,
  };
}

/** struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags. */
function routeOf(body: Uint8Array): Route {
  const found = attributes(body.subarray(12));
  return {
    type: body[7] ?? 0,
    table: found.has(15) ? word(found.get(15)) : (body[4] ?? 0),
    destination: found.get(1)?.slice() ?? new Uint8Array(),
    prefixLength: body[1] ?? 0,
    gateway: found.get(5)?.slice(),
    ifindex: word(found.get(4)),
  };
}

function withSocket<T>(work: (socket: NetlinkSocket) => T): T {
  const socket = new NetlinkSocket();
  try {
    return work(socket);
  } finally {
    socket.close();
  }
}

/** Every device of this network namespace. */
export function links(): Link[] {
  return withSocket((socket) => socket.dump(RTM_GETLINK, new Uint8Array(16), 'links')).map((message) => linkOf(message.body));
}

/** struct ifaddrmsg: family, prefixlen, flags, scope, index; IFA_LOCAL (2) else IFA_ADDRESS (1). */
export function addresses(): InterfaceAddress[] {
  return withSocket((socket) => socket.dump(RTM_GETADDR, new Uint8Array(8), 'addresses')).map(({ body }) => {
    const found = attributes(body.subarray(8));
    const address = (found.get(2) ?? found.get(1) ?? new Uint8Array()).slice();
    return { ifindex: viewOf(body).getUint32(4, true), address, prefixLength: body[1] ?? 0 };
  });
}

/** Every route of every table, both families. */
export function routes(): Route[] {
  return withSocket((socket) =>
    [AF_INET, AF_INET6].flatMap((family) => {
      const body = new Uint8Array(12);
      body[0] = family;
      return socket.dump(RTM_GETROUTE, body, 'routes').map((message) => routeOf(message.body));
    }),
  );
}

/** struct ndmsg: family, pad, ifindex, state, flags, type; NDA_DST 1, NDA_LLADDR 2. */
export function neighbours(): Neighbour[] {
  return withSocket((socket) => socket.dump(RTM_GETNEIGH, new Uint8Array(12), 'neighbours')).map(({ body }) => {
    const found = attributes(body.subarray(12));
    const view = viewOf(body);
    return {
      ifindex: view.getInt32(4, true),
      address: found.get(1)?.slice() ?? new Uint8Array(),
      mac: found.get(2)?.slice(),
      state: view.getUint16(8, true),
    };
  });
}

/** The route that a packet of this node to `address` (4 or 16 bytes) takes. ENETUNREACH and the like as KernelError. */
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

/** Tells of devices that come (or change) and go in the namespace where it was made. */
export class LinkMonitor {
  readonly #socket = new NetlinkSocket(RTMGRP_LINK);

  /** `onLost`: events were lost, list the links anew. */
  listen(onEvent: (event: LinkEvent) => void, onLost: () => void): void {
    this.#socket.listen((message: NetlinkMessage) => {
      // AF_BRIDGE: a device became, or ceased to be, a bridge's port; it is still there.
      if (message.body[0] !== AF_UNSPEC) return;
      if (message.type === RTM_NEWLINK) onEvent({ kind: 'new', link: linkOf(message.body) });
      if (message.type === RTM_DELLINK) onEvent({ kind: 'gone', ifindex: linkOf(message.body).ifindex });
    }, onLost);
  }

  close(): void {
    this.#socket.close();
  }
}

/** Tells that an address of some device came or went in the namespace where it was made; read addresses() then. */
export class AddressMonitor {
  readonly #socket = new NetlinkSocket(RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR);

  listen(onChange: () => void): void {
    this.#socket.listen(onChange, onChange);
  }

  close(): void {
    this.#socket.close();
  }
}
