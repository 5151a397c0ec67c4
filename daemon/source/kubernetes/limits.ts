// SPDX-License-Identifier: Apache-2.0
// The limits of what the API server may send, with their reasons. If a response exceeds a limit, the agent stops reading the response,
// reports a problem that names the resource and the limit, and asks again after a long delay. The rows stay as they are. Constants only.

/** Maximum size of one object as JSON. etcd refuses objects of more than 1.5 MiB, in an encoding that takes half as much as JSON. */
export const MAX_OBJECT_BYTES = 8 * 2 ** 20;

/** Maximum size of a list without its objects. A continue token takes a few hundred bytes. */
export const MAX_FRAME_BYTES = 2 ** 20;

/** Maximum size of all pages of a list together. 250,000 endpoints take 100 MB. */
export const MAX_LIST_BYTES = 2 ** 30;

/** Maximum number of pages of a list. A full page has 500 objects. Without a limit, a server could offer further pages without end. */
export const MAX_PAGES = 10_000;

/** Maximum number of objects in a list, or in the initial events of a watch. Each valid object becomes a row. */
export const MAX_OBJECTS = 500_000;

/** Maximum size of the body of an error. A Status object has a few hundred bytes. */
export const MAX_ERROR_BYTES = 64 * 2 ** 10;

/** Maximum size of all headers of a response together, and their maximum number. kube-apiserver sends 10 headers with 1 KiB. */
export const MAX_HEADER_BYTES = 32 * 2 ** 10;
export const MAX_HEADERS = 100;

/** Maximum number of problems of one object that are reported one by one. */
export const MAX_OBJECT_PROBLEMS = 20;
