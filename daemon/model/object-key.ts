// SPDX-License-Identifier: Apache-2.0
// Key of a namespaced object in its table.

export const objectKey = (object: { readonly namespace: string; readonly name: string }): string => `${object.namespace}/${object.name}`;
