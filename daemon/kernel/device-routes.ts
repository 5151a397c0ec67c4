// SPDX-License-Identifier: Apache-2.0
// Which devices the routes of this network namespace lead through. A node may have a million routes, so the messages of a dump are scanned
// one received part at a time and nothing is kept. It must never change a route. Called by source/netlink/.
import type { KernelError } from '../base/errors.ts';
import { attributes, type NetlinkMessage, NetlinkSocket } from './netlink.ts';

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_DELADDR = 21;
const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
const RTM_NEWNEXTHOP = 104;
const RTM_DELNEXTHOP = 105;
const RTM_GETNEXTHOP = 106;
/** Groups of multicast events: link, IPv4 addresses, IPv4 routes, IPv6 routes, next hop objects (RTNLGRP_NEXTHOP is 32). */
const EVENT_GROUPS = (0x1 | 0x10 | 0x40 | 0x400 | 0x80000000) >>> 0;
const NLM_F_REPLACE = 0x100;

const AF_UNSPEC = 0;
const AF_INET = 2;
const AF_INET6 = 10;
const IFF_UP = 1;
const RTN_UNICAST = 1;
const RT_TABLE_LOCAL = 255;
/** A route in the cache, such as a changed path MTU. */
const RTM_F_CLONED = 0x200;
/** A next hop whose device is down. */
const RTNH_F_DEAD = 1;

const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_MULTIPATH = 9;
const RTA_VIA = 18;
const RTA_NH_ID = 30;
const NHA_OIF = 5;
const NHA_GATEWAY = 6;

export interface NextHop {
  readonly ifindex: number;
  /** The next hop has a gateway, or the route is a default route. */
  readonly hasGateway: boolean;
  readonly isDefault: boolean;
  /** The next hop is one of several of its route, or may be. */
  readonly isMultipath: boolean;
}

type OnNextHop = (hop: NextHop) => void;

/**
 * Calls back for each next hop of each unicast route of all tables except "local". Routes to link-local and multicast destinations are left
 * out, because every device has them. Pauses after each received part; the caller must finish the generator, or call return(). A dump that
 * changes meanwhile may lack routes that are changed meanwhile; the monitor reports those. Throws KernelError.
 */
export function* dumpNextHops(onHop: OnNextHop): Generator<undefined, void> {
  const socket = new NetlinkSocket();
  try {
    let hasObjects = false;
    for (const family of [AF_INET, AF_INET6]) {
      const body = new Uint8Array(12);
      body[0] = family;
      for (const part of socket.dumpParts(RTM_GETROUTE, body, 'routes')) {
        for (const message of part) hasObjects = scanRoute(message.body, onHop) || hasObjects;
        yield;
      }
    }
    // With net.ipv4.nexthop_compat_mode=0 a route names only its next hop object. Every such object then counts as the next hop of a route.
    if (!hasObjects) return;
    for (const part of socket.dumpParts(RTM_GETNEXTHOP, new Uint8Array(8), 'next hop objects')) {
      for (const { body } of part) scanObject(body, onHop);
      yield;
    }
  } finally {
    socket.close();
  }
}

const short = (bytes: Uint8Array, at: number): number => (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
const word = (bytes: Uint8Array, at: number): number => short(bytes, at) | (short(bytes, at + 2) << 16);

/**
 * struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags. Reads the attributes in place, because attributes()
 * makes several objects per message. Returns true if the route names a next hop object and no device.
 */
function scanRoute(body: Uint8Array, onHop: OnNextHop): boolean {
  if (body[7] !== RTN_UNICAST || body[4] === RT_TABLE_LOCAL || (word(body, 8) & RTM_F_CLONED) !== 0) return false;
  const isDefault = body[1] === 0;
  let [destination, ifindex, multipath, multipathEnd] = [0, 0, 0, 0];
  let [hasGateway, hasObject] = [false, false];
  for (let at = 12; at + 4 <= body.length;) {
    const length = short(body, at);
    if (length < 4) break;
    const type = short(body, at + 2) & 0x3fff;
    if (type === RTA_DST) destination = at + 4;
    else if (type === RTA_OIF) ifindex = word(body, at + 4);
    else if (type === RTA_GATEWAY || type === RTA_VIA) hasGateway = true;
    else if (type === RTA_MULTIPATH) [multipath, multipathEnd] = [at + 4, at + length];
    else if (type === RTA_NH_ID) hasObject = true;
    at += (length + 3) & ~3;
  }
  if (!hasGateway && destination !== 0 && isLinkLocal(body, destination)) return false;
  if (ifindex !== 0) onHop({ ifindex, hasGateway: hasGateway || isDefault, isDefault, isMultipath: false });
  if (multipath !== 0) scanMultipath(body.subarray(multipath, multipathEnd), isDefault, onHop);
  return hasObject && ifindex === 0 && multipath === 0;
}

/** struct rtnexthop: len, flags, hops, ifindex; then the attributes of the next hop. */
function scanMultipath(bytes: Uint8Array, isDefault: boolean, onHop: OnNextHop): void {
  for (let at = 0; at + 8 <= bytes.length;) {
    const length = short(bytes, at);
    if (length < 8) return;
    const found = attributes(bytes.subarray(at + 8, at + length));
    const hasGateway = isDefault || found.has(RTA_GATEWAY) || found.has(RTA_VIA);
    if (((bytes[at + 2] ?? 0) & RTNH_F_DEAD) === 0) onHop({ ifindex: word(bytes, at + 4), hasGateway, isDefault, isMultipath: true });
    at += (length + 3) & ~3;
  }
}

/** struct nhmsg has 8 bytes. */
function scanObject(body: Uint8Array, onHop: OnNextHop): void {
  const found = attributes(body.subarray(8));
  const oif = found.get(NHA_OIF);
  if (oif !== undefined) onHop({ ifindex: word(oif, 0), hasGateway: found.has(NHA_GATEWAY), isDefault: false, isMultipath: true });
}

/** 169.254.0.0/16 and 224.0.0.0/4, or fe80::/10 and ff00::/8. The address is at `at`. */
function isLinkLocal(body: Uint8Array, at: number): boolean {
  const [first = 0, second = 0] = [body[at], body[at + 1]];
  if (body[0] === AF_INET) return (first === 169 && second === 254) || (first & 0xf0) === 0xe0;
  return first === 0xff || (first === 0xfe && (second & 0xc0) === 0x80);
}

export interface RouteEvents {
  /** A route was added. */
  readonly onHop: OnNextHop;
  /** The device is down or was removed, so no route leads through it. */
  readonly onDown: (ifindex: number) => void;
  /** Routes were removed or replaced: what was known about their devices may no longer be true. */
  readonly onStale: () => void;
  /** As in LinkMonitor. */
  readonly onLost: (reason: KernelError) => void;
}

/** Reports changes of routes in the network namespace in which the monitor was created. */
export class RouteMonitor {
  readonly #socket = new NetlinkSocket(EVENT_GROUPS);

  listen(events: RouteEvents): void {
    this.#socket.listen((messages) => {
      for (const message of messages) report(message, events);
    }, events.onLost);
  }

  close(): void {
    this.#socket.close();
  }
}

function report({ type, flags, body }: NetlinkMessage, { onHop, onDown, onStale }: RouteEvents): void {
  switch (type) {
    case RTM_NEWROUTE:
      // The route that is replaced is not reported, and may lead through another device.
      if (scanRoute(body, onHop) || (flags & NLM_F_REPLACE) !== 0) onStale();
      return;
    case RTM_DELROUTE: {
      const removed: NextHop[] = [];
      const hasObject = scanRoute(body, (hop) => removed.push(hop));
      if (removed.length > 0 || hasObject) onStale();
      return;
    }
    // The kernel removes the IPv4 routes with this source address, and the routes with this next hop object, without a message.
    case RTM_DELADDR:
    case RTM_NEWNEXTHOP:
    case RTM_DELNEXTHOP:
      return onStale();
    case RTM_NEWLINK:
    case RTM_DELLINK: {
      // struct ifinfomsg: family, pad, type, index, flags. An AF_BRIDGE message is about a port of a bridge.
      const isDown = type === RTM_DELLINK || (word(body, 8) & IFF_UP) === 0;
      if (body[0] === AF_UNSPEC && isDown) onDown(word(body, 4));
      return;
    }
    default:
  }
}
