// SPDX-License-Identifier: Apache-2.0
// YAML that needs much more memory than its length suggests is refused before it is parsed, and the largest text that is parsed, whatever it
// contains, fits into the memory of the parser thread.
import { describe, expect, test } from 'vitest';
import { DocumentParser, isLarge } from '../../../daemon/source/files/document-parser.ts';
import { parseDocument } from '../../../daemon/source/files/documents.ts';
import { MAX_YAML_MARKS } from '../../../daemon/source/files/limits.ts';
import { collectGarbage } from '../../support/garbage.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { serviceYaml, startWorld } from './fixture.ts';

const tooMany = `a YAML document may have at most ${MAX_YAML_MARKS} line breaks and indicator characters: separate the objects by "---" lines, or use JSON`;

/** Texts whose values, comments, documents or errors take much memory for each character of the unit. */
const kinds: readonly { readonly name: string; readonly unit: string; readonly before?: string; readonly after?: string }[] = [
  { name: 'short values in brackets', unit: '1,', before: 'a: [', after: ']' },
  { name: 'empty mappings in brackets', unit: '{},', before: 'a: [', after: ']' },
  { name: 'empty pairs in brackets', unit: ':,', before: 'a: [', after: ']' },
  { name: 'complex keys in brackets', unit: '?,', before: 'a: [', after: ']' },
  { name: 'keys in braces', unit: 'k,', before: 'a: {', after: '}' },
  { name: 'tags', unit: '!,', before: 'a: [', after: ']' },
  { name: 'anchors', unit: '&a,', before: 'a: [', after: ']' },
  { name: 'quotes', unit: '"",', before: 'a: [', after: ']' },
  { name: 'empty list elements', unit: '-\n', before: 'a:\n' },
  { name: 'lists in lists', unit: '- - - - - - - -\n', before: 'a:\n' },
  { name: 'empty keys', unit: '? \n', before: 'a:\n' },
  { name: 'closing braces without opening ones', unit: '}' },
  { name: 'commas', unit: ',', before: 'a: [', after: ']' },
  { name: 'empty documents that are not split', unit: '---\n', before: '...\n' },
  { name: 'ends of documents', unit: '...\n' },
  { name: 'directives', unit: '%\n' },
  { name: 'comments', unit: '#\n' },
  { name: 'empty lines', unit: '\n', before: 'a: 1' },
  { name: 'wrong escape sequences', unit: '\\q', before: 'a: "', after: '"' },
];

const textOf = ({ unit, before = '', after = '' }: (typeof kinds)[number], chars: number): string =>
  `${before}${unit.repeat(Math.floor(chars / unit.length))}${after}\n`;

test.for(kinds)('2 MB of YAML with $name is refused without parsing it', (kind) => {
  const text = textOf(kind, 2_000_000);
  collectGarbage();
  const before = process.memoryUsage().heapTotal;
  const { findings, hasUnreadablePart } = parseDocument(text, false);
  expect([findings.map((finding) => finding.text), hasUnreadablePart]).toEqual([[tooMany], true]);
  expect(process.memoryUsage().heapTotal - before).toBeLessThan(50 * 2 ** 20);
});

test('merge keys that would add millions of keys are refused without parsing the text', () => {
  const keys = Array.from({ length: 3000 }, (_, n) => `  k${n}: 1\n`).join('');
  const { findings } = parseDocument(`a: &a\n${keys}b:\n${'- <<: *a\n'.repeat(3000)}`, false);
  expect(findings.map((finding) => finding.text)).toEqual([
    'the merge keys ("<<") of a YAML document may add at most 1000000 keys: separate the objects by "---" lines, or use JSON',
  ]);
});

test('an error at each character of a text takes no stack trace', () => {
  const { stackTraceLimit } = Error;
  expect(parseDocument('}'.repeat(1000), false).hasUnreadablePart).toBe(true);
  expect(Error.stackTraceLimit).toBe(stackTraceLimit);
});

describe('the largest text that is not refused fits into the memory of the parser thread', () => {
  test.for([
    { name: 'short values in brackets', unit: '1,', before: 'a: [', after: ']', chars: 2 * (MAX_YAML_MARKS - 10) },
    { name: 'lists in lists', unit: `${'- '.repeat(33)}-\n`, before: 'a:\n', chars: 1.94 * (MAX_YAML_MARKS - 100) },
  ])('$name', { timeout: 300_000 }, async ({ chars, ...kind }) => {
    const parser = new DocumentParser(new FakeClock());
    const text = textOf(kind, chars);
    const document = (await parser.parse([text], false)).get(text);
    await parser.close();
    expect(document?.findings.map((finding) => finding.text)).toEqual(['kind: must be a string, is missing']);
  });
});

test.for(kinds)('32,000 characters of YAML with $name are not parsed in one turn of the event loop', (kind) => {
  expect(isLarge([textOf(kind, 32_000)], false)).toBe(true);
});

/** A Service as `kubectl get services -o yaml` prints it. */
const printed = (n: number): string =>
  `- apiVersion: v1
  kind: Service
  metadata:
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: |
        {"apiVersion":"v1","kind":"Service","metadata":{"annotations":{},"name":"s${n}","namespace":"shop"},"spec":{"ports":[{"name":"http","port":80,"targetPort":8080}],"selector":{"app":"s${n}"}}}
    creationTimestamp: "2026-01-01T00:00:00Z"
    labels:
      app: s${n}
    name: s${n}
    namespace: shop
    resourceVersion: "${n}"
    uid: 0d3f4c8e-8a43-4c59-9f4e-2f0a5a0f9${n}
  spec:
    clusterIP: 10.96.${n >> 8}.${n & 255}
    clusterIPs:
    - 10.96.${n >> 8}.${n & 255}
    internalTrafficPolicy: Cluster
    ipFamilies:
    - IPv4
    ipFamilyPolicy: SingleStack
    ports:
    - name: http
      port: 80
      protocol: TCP
      targetPort: 8080
    selector:
      app: s${n}
    sessionAffinity: None
    type: ClusterIP
  status:
    loadBalancer: {}
`;

test('32,000 characters of Services as kubectl prints them, or of JSON, are parsed in one turn of the event loop', () => {
  const services = Array.from({ length: 100 }, (_, n) => printed(n)).join('');
  expect(isLarge([services.slice(0, 32_000)], false)).toBe(false);
  expect(isLarge([`[${'1,'.repeat(15_000)}1]`], true)).toBe(false);
  expect(isLarge(['x'.repeat(40_000)], true)).toBe(true);
});

test('a list of 1,000 Services as kubectl prints them is read', { timeout: 300_000 }, async () => {
  const items = Array.from({ length: 1000 }, (_, n) => printed(n)).join('');
  const world = await startWorld({ 'all.yaml': `apiVersion: v1\nkind: List\nitems:\n${items}` });
  expect([world.services.length, world.messages]).toEqual([1000, []]);
});

test('a document that is refused does not affect the other documents of its file', async () => {
  const world = await startWorld({ 'w.yaml': `${serviceYaml('a')}---\n${'-\n'.repeat(200_000)}---\n${serviceYaml('b')}` });
  expect(world.services).toEqual(['default/a', 'default/b']);
  expect([world.messages.length, world.messages[0]]).toEqual([1, expect.stringContaining(`: ${tooMany}`)]);
});
