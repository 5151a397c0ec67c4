/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Shared by the C programs of the benchmark: the clock, CPUs, sockets, and the
 * switch for the kernel's BPF statistics. It must not depend on Sluice.
 */
#ifndef SLUICE_BENCH_PEER_H
#define SLUICE_BENCH_PEER_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/bpf.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

__attribute__((noreturn)) static inline void fail(const char *what)
{
	perror(what);
	exit(1);
}

static inline __u64 read_clock(clockid_t clock)
{
	struct timespec time;

	if (clock_gettime(clock, &time))
		fail("clock_gettime");
	return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

static inline __u64 now(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

static inline void pin_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("sched_setaffinity");
}

/* Clients run on the first CPU, servers on the last. */
static inline void pin_client(void)
{
	pin_to(0);
}

static inline void pin_server(void)
{
	pin_to(sysconf(_SC_NPROCESSORS_ONLN) - 1);
}

static inline struct sockaddr_in address_of(const char *address,
					    const char *port)
{
	struct sockaddr_in to = { .sin_family = AF_INET };

	to.sin_port = htons(atoi(port));
	if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
		fail(address);
	return to;
}

static inline int open_socket(int type)
{
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket");
	return fd;
}

static inline int listen_on(int type, const char *port)
{
	struct sockaddr_in any = address_of("0.0.0.0", port);
	int fd = open_socket(type), yes = 1, room = 1 << 24;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof(yes));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	if (bind(fd, (void *)&any, sizeof(any)) ||
	    (type == SOCK_STREAM && listen(fd, 4096)))
		fail("bind");
	return fd;
}

/* The kernel counts the runs of BPF programs until the descriptor is closed. */
static inline int enable_bpf_statistics(void)
{
	union bpf_attr attr = { .enable_stats.type = BPF_STATS_RUN_TIME };
	int fd = syscall(__NR_bpf, BPF_ENABLE_STATS, &attr, sizeof(attr));

	if (fd < 0)
		fail("BPF_ENABLE_STATS");
	return fd;
}

#endif
