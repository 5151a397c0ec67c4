// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * No program: an object whose BTF holds every type that user space needs, which
 * datapath/build/codecs.ts reads. Structs of a map are in it with the map;
 * every other type needs a variable.
 */
#include "lib/types.h"
#include "lib/maps.h"

enum layout layout;
enum frontend_flags frontend_flags;
enum address_set address_set;
enum host_flags host_flags;
enum backend_state backend_state;
enum drop_reason drop_reason;
struct lb_explain lb_explain;
struct lb_connect lb_connect;
