// SPDX-License-Identifier: Apache-2.0
// The kinds of values that settings have, each read from text, whichever source the text came from (flag, environment,
// file). Pure; every refusal is a clause that continues "NAME VALUE ...". Used by config.ts alone.
import ipaddr from 'ipaddr.js';
import { z } from 'zod';

import { parseCidr } from '../model/address.ts';

interface HttpAddress {
  readonly address: string;
  readonly port: number;
}

const text = z.string().trim();

/** Text that is one of a few words. */
export const oneOf = <const Word extends string>(...words: Word[]) =>
  text.refine((value): value is Word => words.includes(value as Word), {
    error: `must be one of ${words.join(', ')}`,
  }) as unknown as z.ZodType<Word, string>;

export const onOff = oneOf('on', 'off').transform((value) => value === 'on');

export const nonEmpty = text.min(1, { error: 'must not be empty' });

export const absolutePath = text
  .refine((value) => value.startsWith('/'), { error: 'must be an absolute path' })
  .transform((value) => (value === '/' ? value : value.replace(/\/+$/, '')));

/** sun_path holds 108 bytes, the last a zero. */
export const socketPath = absolutePath.refine((value) => Buffer.byteLength(value) <= 107, {
  error: 'is longer than the 107 bytes that a socket path may have',
});

export const nodeName = text.refine(
  (value) => value.length <= 253 && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/.test(value),
  {
    error: 'is not a Node name: lower-case letters, digits, "-" and ".", at most 253 characters',
  },
);

/** A whole number within bounds, both included. */
export const wholeNumber = (least: number, most: number) =>
  text.transform((value, context) => {
    const number = /^\d+$/.test(value) ? Number(value) : Number.NaN;
    if (number >= least && number <= most) return number;
    context.addIssue({ code: 'custom', message: `must be a whole number from ${least} to ${most}` });
    return z.NEVER;
  });

/** "10s", "500ms", "2m": milliseconds, from a tenth of a second to a day. */
export const duration = text.transform((value, context) => {
  const [, amount, unit] = /^(\d+)(ms|s|m|h)$/.exec(value) ?? [];
  const milliseconds = Number(amount) * ({ ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[unit ?? ''] ?? Number.NaN);
  if (milliseconds >= 100 && milliseconds <= 86_400_000) return milliseconds;
  context.addIssue({ code: 'custom', message: 'must be a time from 100ms to 24h, such as 10s' });
  return z.NEVER;
});

/** Comma-separated text; every part must be without problem. Repetitions are dropped. */
const listOf = (problemOf: (part: string) => string | undefined) =>
  text.transform((value, context): readonly string[] => {
    const parts = value
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== '');
    for (const message of parts.map(problemOf)) if (message !== undefined) context.addIssue({ code: 'custom', message });
    return [...new Set(parts)];
  });

/** Device names, or prefixes of them. */
export const devices = listOf((part) => {
  // IFNAMSIZ is 16 with the closing zero; dev_valid_name() refuses "/", ":" and white space.
  const isName = part.length <= 15 && /^[^/:\s]+$/.test(part) && part !== '.' && part !== '..';
  return isName ? undefined : `holds "${part}", and no network device can be named so`;
});

/** Base addresses of the API server. One with a user's name is not shown: there may be a password behind it. */
export const apiServers = listOf((part) => {
  if (part.includes('@')) return 'holds an address with the name of a user: credentials come from the kubeconfig or the service account';
  const url = URL.parse(part);
  return url?.protocol === 'https:' && url.search === '' ? undefined : `holds "${part}", which is no address such as https://10.0.0.1:6443`;
}).transform((parts): readonly URL[] => parts.map((part) => new URL(part)));

export const cidrs = listOf((part) => {
  const isCidr = ipaddr.IPv4.isValidCIDRFourPartDecimal(part) || ipaddr.IPv6.isValidCIDR(part);
  if (!isCidr) return `holds "${part}", which is not a CIDR such as 10.96.0.0/12 or fd00::/108`;
  const length = part.split('/')[1] ?? '';
  const network = part.includes(':')
    ? ipaddr.IPv6.networkAddressFromCIDR(part).toRFC5952String()
    : ipaddr.IPv4.networkAddressFromCIDR(part).toString();
  return part === `${network}/${length}` ? undefined : `holds "${part}": write ${network}/${length}`;
});

/** CIDRs as kube-proxy reads them: host bits are cleared, leading zeros are decimal. */
export const looseCidrs = listOf((part) =>
  parseCidr(part) === undefined ? `holds "${part}", which is not a CIDR such as 10.244.0.0/16 or fd00::/64` : undefined,
).transform((parts): readonly string[] => [...new Set(parts.map((part) => parseCidr(part)?.text ?? part))]);

/** "all", "primary", or CIDRs; never an empty list. */
export const nodePortAddresses = text.transform((value, context): 'all' | 'primary' | readonly string[] => {
  if (value === 'all' || value === 'primary') return value;
  const { data } = looseCidrs.safeParse(value);
  if (data !== undefined && data.length > 0) return data;
  context.addIssue({ code: 'custom', message: 'must be all, primary, or CIDRs such as 192.168.0.0/16' });
  return z.NEVER;
});

interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Kubernetes' default NodePorts: a masqueraded flow on one of these would be taken for a client of the Service. */
const nodePorts: PortRange = { first: 30_000, last: 32_767 };

const overlap = (a: PortRange, b: PortRange): boolean => a.first <= b.last && b.first <= a.last;

/** "1024-29999,61000-65535": one or two ranges, sorted. */
export const snatPorts = text.transform((value, context): readonly PortRange[] => {
  const refuse = (message: string): never => {
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  };
  const ranges = value.split(',').map((part) => {
    const [, first, last] = /^(\d{1,5})-(\d{1,5})$/.exec(part.trim()) ?? [];
    return { first: Number(first), last: Number(last) };
  });
  if (ranges.length > 2 || !ranges.every(({ first, last }) => first >= 1024 && first <= last && last <= 65_535))
    return refuse('must be one or two ranges within 1024-65535, such as 1024-29999,61000-65535');
  const [low, high] = ranges.toSorted((a, b) => a.first - b.first);
  if (low !== undefined && high !== undefined && overlap(low, high)) return refuse('holds two ranges that overlap');
  const taken = ranges.find((range) => overlap(range, nodePorts));
  if (taken !== undefined) return refuse(`holds ${taken.first}-${taken.last}, which overlaps the NodePorts 30000-32767`);
  return ranges.toSorted((a, b) => a.first - b.first);
});

/** "127.0.0.1:9880" or "[::1]:9880"; "off" gives undefined. */
export const httpAddress = text.transform((value, context): HttpAddress | undefined => {
  if (value === 'off') return undefined;
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(value) ?? [];
  const isAddress = bracketed !== undefined ? ipaddr.IPv6.isValid(bracketed) : ipaddr.IPv4.isValidFourPartDecimal(plain ?? '');
  if (isAddress && Number(port) <= 65_535) return { address: bracketed ?? plain ?? '', port: Number(port) };
  context.addIssue({ code: 'custom', message: 'must be ADDR:PORT, such as 127.0.0.1:9880 or [::1]:9880, or "off"' });
  return z.NEVER;
});
