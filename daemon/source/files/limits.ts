// SPDX-License-Identifier: Apache-2.0
// The limits of a directory of objects, with their reasons. What exceeds a limit is refused by name, and what was read before stays
// in force. daemon/README.md lists the limits. Constants only.

/**
 * Size of one file. 5,000 Services with their endpoints take 20 MB as kubectl prints them. Twice this size is in memory while a file is
 * read.
 */
export const MAX_FILE_BYTES = 32 * 2 ** 20;

/**
 * Size of one YAML document. Parsing takes 1 s and 16 times its size in memory per 2 MiB; JSON, or documents that "---" separates, take
 * less.
 */
export const MAX_YAML_BYTES = 4 * 2 ** 20;

/** Size of all files together. Their texts stay in memory, so that only documents that changed are parsed again. */
export const MAX_TOTAL_BYTES = 128 * 2 ** 20;

/** Number of names in the directory. A scan asks the kernel for each of them, which takes 10 microseconds. */
export const MAX_NAMES = 20_000;

/** Number of objects in all files. A cluster with 5,000 nodes has 10,000 Services. */
export const MAX_OBJECTS = 250_000;

/** Number of problems of one file that are reported one by one. Finding the line of a problem takes time, and each problem is logged. */
export const MAX_FILE_PROBLEMS = 100;

/** Length of text that is parsed in one turn of the event loop: 25 ms of YAML. A longer text is parsed by a worker thread. */
export const MAX_INLINE_CHARS = 32_768;

/** Time in which the worker thread must parse one document. The largest allowed one takes 3 s on a machine that is not busy. */
export const MAX_PARSE_SECONDS = 30;

/** Size of the heap of the worker thread. A document of MAX_YAML_BYTES needs 100 MiB. */
export const MAX_PARSE_MIB = 384;
