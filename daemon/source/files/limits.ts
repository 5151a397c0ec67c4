// SPDX-License-Identifier: Apache-2.0
// The limits of a directory of objects, with their reasons. If a file or the directory exceeds a limit, a problem names it, and the objects
// that were read before stay in force. daemon/README.md lists the limits. Constants only.

/**
 * Maximum size of one file in bytes. 5,000 Services with their endpoints take 20 MB as kubectl prints them. Twice this size is in memory
 * while a file is read.
 */
export const MAX_FILE_BYTES = 32 * 2 ** 20;

/**
 * Maximum size of one YAML document in bytes. Long strings take up to 32 bytes of memory for each character. JSON takes less, and so do
 * several documents that "---" separates.
 */
export const MAX_YAML_BYTES = 2 * 2 ** 20;

/**
 * Maximum number of line breaks and indicator characters in one YAML document. The parser needs up to 1.3 KiB of memory for each of them, so
 * that a document of this number, whatever it contains, needs less than MAX_PARSE_MIB. 1,300 Services as kubectl prints them have so many.
 */
export const MAX_YAML_MARKS = 200_000;

/**
 * Maximum number of keys that the merge keys of one YAML document may add: the number of merge keys times that of colons. Each key that is
 * added takes memory, and a few hundred kilobytes of text could add millions.
 */
export const MAX_YAML_MERGED_KEYS = 1_000_000;

/** Maximum number of documents in one YAML file. The shortest Service takes 100 bytes, so that many documents have 10 MB or more. */
export const MAX_DOCUMENTS = 100_000;

/**
 * Maximum number of values in one JSON text, and of keys in one object. A list of 32 MiB as kubectl prints it has 1 million values. With
 * more, the parser may take more memory than MAX_PARSE_MIB, and Node.js then ends not only the thread but sometimes the process.
 */
export const MAX_JSON_VALUES = 3_000_000;
export const MAX_JSON_KEYS = 100_000;

/** Maximum size of all files together in bytes. Their texts stay in memory, so that only documents that changed are parsed again. */
export const MAX_TOTAL_BYTES = 128 * 2 ** 20;

/** Maximum number of names in the directory. A scan asks the kernel for each name, which takes 10 microseconds per name. */
export const MAX_NAMES = 20_000;

/** Maximum number of objects in all files. A cluster with 5,000 nodes has 10,000 Services. */
export const MAX_OBJECTS = 250_000;

/**
 * Maximum number of problems of one file that are reported one by one. Finding the line of a problem takes time, and each problem is
 * logged.
 */
export const MAX_FILE_PROBLEMS = 100;

/**
 * Maximum length of text that is parsed in one turn of the event loop. YAML of this length takes 25 ms. A longer text is parsed by a worker
 * thread.
 */
export const MAX_INLINE_CHARS = 32_768;

/**
 * Maximum number of line breaks and indicator characters of YAML that is parsed in one turn of the event loop. YAML as kubectl prints it has
 * 5,000 of them in MAX_INLINE_CHARS; YAML of nothing else would take 100 ms.
 */
export const MAX_INLINE_MARKS = 8000;

/** Time limit for parsing one document in the worker thread. The largest allowed document takes 3 s on a machine that is not busy. */
export const MAX_PARSE_SECONDS = 30;

/**
 * Maximum size of the heap of the worker thread in MiB. The YAML that needs most, MAX_YAML_MARKS short values beside a string of the
 * other bytes, was parsed with 288 MiB.
 */
export const MAX_PARSE_MIB = 384;
