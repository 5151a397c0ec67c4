// SPDX-License-Identifier: Apache-2.0
// The limits of what the API server may send, with their reasons. If a response exceeds a limit, the agent stops reading the response,
// reports a problem that names the resource and the limit, and asks again after a long delay. The rows stay as they are. Constants only.

/** Size of one object as JSON. etcd refuses objects of more than 1.5 MiB, in an encoding that takes half as much as JSON. */
export const MAX_OBJECT_BYTES = 8 * 2 ** 20;

/** Size of a list without its objects. A continue token takes some hundred bytes. */
export const MAX_FRAME_BYTES = 2 ** 20;

/** Size of all pages of a list. 250,000 endpoints take 100 MB. */
export const MAX_LIST_BYTES = 2 ** 30;

/** Number of pages of a list. Each page should have 500 objects; a server that always offers one more page would never end. */
export const MAX_PAGES = 10_000;

/** Number of objects in a list, or before the end of the initial events of a watch. Each valid one becomes a row. */
export const MAX_OBJECTS = 500_000;

/** Size of the body of an error. A Status object has some hundred bytes. */
export const MAX_ERROR_BYTES = 64 * 2 ** 10;

/** Size of all headers of a response, and their number. kube-apiserver sends 10 headers with 1 KiB. */
export const MAX_HEADER_BYTES = 32 * 2 ** 10;
export const MAX_HEADERS = 100;

/** Number of problems of one object that are reported one by one. */
export const MAX_OBJECT_PROBLEMS = 20;
