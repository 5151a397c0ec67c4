// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Contains no program. The BTF of this object describes every type that user
 * space needs; datapath/build/codecs.ts reads it. The key and value types of
 * the maps are part of the BTF. Every other type needs a variable here.
 */
#include "lib/types.h"
#include "lib/maps.h"

enum layout layout;
enum frontend_flags frontend_flags;
enum address_set address_set;
enum host_flags host_flags;
enum backend_state backend_state;
enum drop_reason drop_reason;
enum flow_row flow_row;
enum flow_flags flow_flags;
enum phase phase;
struct lb_explain lb_explain;
struct lb_connect lb_connect;
