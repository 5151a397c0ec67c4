// SPDX-License-Identifier: Apache-2.0
// The types of values that settings have. Each value is parsed from text, which comes from a flag, the environment or a file. Pure. Every
// error message is a predicate that resolve.ts appends to "NAME VALUE". Used by schema.ts only.
import ipaddr from 'ipaddr.js';
import { z } from 'zod';

import { parseCidr } from '../model/address.ts';

interface HttpAddress {
  readonly address: string;
  readonly port: number;
}

const text = z.string().trim();

/** One of the given words. */
export const oneOf = <const Word extends string>(...words: Word[]) =>
  text.refine((value): value is Word => words.includes(value as Word), {
    error: `must be one of ${words.join(', ')}`,
  }) as unknown as z.ZodType<Word, string>;

export const onOff = oneOf('on', 'off').transform((value) => value === 'on');

export const nonEmpty = text.min(1, { error: 'must not be empty' });

/** A path without trailing slashes. resolve.ts has made it absolute. */
export const path = nonEmpty.transform((value) => value.replace(/(?<=.)\/+$/, ''));

/** sun_path has 108 bytes, including the terminating zero. */
export const socketPath = path.refine((value) => Buffer.byteLength(value) <= 107, {
  error: 'is longer than 107 bytes, the maximum length of a socket path',
});

export const nodeName = text.refine(
  (value) => value.length <= 253 && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/.test(value),
  {
    error: 'is not a valid Node name: use lower-case letters, digits, "-" and ".", at most 253 characters',
  },
);

/** A whole number between two bounds, inclusive. */
export const wholeNumber = (least: number, most: number) =>
  text.transform((value, context) => {
    const number = /^\d+$/.test(value) ? Number(value) : Number.NaN;
    if (number >= least && number <= most) return number;
    context.addIssue({ code: 'custom', message: `must be a whole number from ${least} to ${most}` });
    return z.NEVER;
  });

/** "10s", "500ms", "2m" as milliseconds, from 100 ms to 24 h. */
export const duration = text.transform((value, context) => {
  const [, amount, unit] = /^(\d+)(ms|s|m|h)$/.exec(value) ?? [];
  const milliseconds = Number(amount) * ({ ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[unit ?? ''] ?? Number.NaN);
  if (milliseconds >= 100 && milliseconds <= 86_400_000) return milliseconds;
  context.addIssue({ code: 'custom', message: 'must be a duration from 100ms to 24h, such as 10s' });
  return z.NEVER;
});

/** A comma-separated list without duplicates. `problemOf` returns the error message for an invalid part. */
const listOf = (problemOf: (part: string) => string | undefined) =>
  text.transform((value, context): readonly string[] => {
    const parts = value
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== '');
    for (const message of parts.map(problemOf)) if (message !== undefined) context.addIssue({ code: 'custom', message });
    return [...new Set(parts)];
  });

const deviceNames = listOf((part) => {
  if (part === 'auto' || part === 'off') return `contains "${part}", which must be the only value`;
  // IFNAMSIZ is 16, including the terminating zero; dev_valid_name() rejects "/", ":" and white space.
  const isName = part.length <= 15 && /^[^/:\s]+$/.test(part) && part !== '.' && part !== '..';
  return isName ? undefined : `contains "${part}", which is not a valid device name`;
});

/** "auto", "off", or device names or prefixes of device names. "off" gives an empty list. */
export const devices = text.transform((value, context): 'auto' | readonly string[] => {
  if (value === 'auto') return value;
  if (value === 'off') return [];
  const { data, error } = deviceNames.safeParse(value);
  for (const { message } of error?.issues ?? []) context.addIssue({ code: 'custom', message });
  return data ?? z.NEVER;
});

/** Base URLs of the API server. An error message does not show a URL with a user name, since it may contain a password. */
export const apiServers = listOf((part) => {
  if (part.includes('@')) return 'contains a URL with a user name: credentials come from the kubeconfig or the service account';
  const url = URL.parse(part);
  return url?.protocol === 'https:' && url.search === ''
    ? undefined
    : `contains "${part}", which is not an https URL such as https://10.0.0.1:6443`;
}).transform((parts): readonly URL[] => parts.map((part) => new URL(part)));

export const cidrs = listOf((part) => {
  const isCidr = ipaddr.IPv4.isValidCIDRFourPartDecimal(part) || ipaddr.IPv6.isValidCIDR(part);
  if (!isCidr) return `contains "${part}", which is not a CIDR such as 10.96.0.0/12 or fd00::/108`;
  const length = part.split('/')[1] ?? '';
  const network = part.includes(':')
    ? ipaddr.IPv6.networkAddressFromCIDR(part).toRFC5952String()
    : ipaddr.IPv4.networkAddressFromCIDR(part).toString();
  return part === `${network}/${length}` ? undefined : `contains "${part}", which is not in canonical form: use ${network}/${length}`;
});

/** CIDRs as kube-proxy parses them: host bits are cleared, and numbers with leading zeros are decimal. */
export const looseCidrs = listOf((part) =>
  parseCidr(part) === undefined ? `contains "${part}", which is not a CIDR such as 10.244.0.0/16 or fd00::/64` : undefined,
).transform((parts): readonly string[] => [...new Set(parts.map((part) => parseCidr(part)?.text ?? part))]);

/** "all", "primary", or a list of CIDRs that is not empty. */
export const nodePortAddresses = text.transform((value, context): 'all' | 'primary' | readonly string[] => {
  if (value === 'all' || value === 'primary') return value;
  const { data } = looseCidrs.safeParse(value);
  if (data !== undefined && data.length > 0) return data;
  context.addIssue({ code: 'custom', message: 'must be all, primary, or CIDRs such as 192.168.0.0/16' });
  return z.NEVER;
});

/** "on", "off", or a list of CIDRs that is not empty. */
export const externalIps = text.transform((value, context): 'on' | 'off' | readonly string[] => {
  if (value === 'on' || value === 'off') return value;
  const { data } = looseCidrs.safeParse(value);
  if (data !== undefined && data.length > 0) return data;
  context.addIssue({ code: 'custom', message: 'must be on, off, or CIDRs such as 203.0.113.0/24' });
  return z.NEVER;
});

interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Default NodePort range of Kubernetes. Masquerading must not use these ports: a reply to such a port would match the NodePort. */
const nodePorts: PortRange = { first: 30_000, last: 32_767 };

const overlap = (a: PortRange, b: PortRange): boolean => a.first <= b.last && b.first <= a.last;

/** "1024-29999,61000-65535": one or two ranges, sorted. */
export const snatPorts = text.transform((value, context): readonly PortRange[] => {
  const reject = (message: string): never => {
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  };
  const ranges = value.split(',').map((part) => {
    const [, first, last] = /^(\d{1,5})-(\d{1,5})$/.exec(part.trim()) ?? [];
    return { first: Number(first), last: Number(last) };
  });
  if (ranges.length > 2 || !ranges.every(({ first, last }) => first >= 1024 && first <= last && last <= 65_535))
    return reject('must be one or two ranges within 1024-65535, such as 1024-29999,61000-65535');
  const [low, high] = ranges.toSorted((a, b) => a.first - b.first);
  if (low !== undefined && high !== undefined && overlap(low, high)) return reject('contains two ranges that overlap');
  const taken = ranges.find((range) => overlap(range, nodePorts));
  if (taken !== undefined) return reject(`contains ${taken.first}-${taken.last}, which overlaps the NodePort range 30000-32767`);
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
