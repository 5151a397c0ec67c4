// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Clients and servers of the end-to-end rows of the benchmark. They are in C,
 * because a script would take longer than the measured operation. Servers
 * answer until they are killed. Clients run for the given time or count and
 * print one line of JSON. They do not depend on Sluice and send only to the
 * address in the arguments.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SAMPLES (1 << 20)
#define BATCH 32
#define PAYLOAD 64 /* bytes of a datagram */

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static __u64 now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

/* Clients run on the first CPU, servers on the last. */
static void pin_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("sched_setaffinity");
}

static struct sockaddr_in address_of(const char *address, const char *port)
{
	struct sockaddr_in to = { .sin_family = AF_INET };

	to.sin_port = htons(atoi(port));
	if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
		fail(address);
	return to;
}

static int open_socket(int type)
{
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket");
	return fd;
}

static int listen_on(int type, const char *port)
{
	struct sockaddr_in any = address_of("0.0.0.0", port);
	int fd = open_socket(type), yes = 1, room = 1 << 24;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	if (bind(fd, (void *)&any, sizeof(any)) ||
	    (type == SOCK_STREAM && listen(fd, 4096)))
		fail("bind");
	return fd;
}

/* Echoes one byte per connection; the client resets the connection. */
static void serve_tcp(const char *port)
{
	int listener = listen_on(SOCK_STREAM, port);
	char byte;

	puts("ready");
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			continue;
		while (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) == 1)
			;
		close(fd);
	}
}

static void serve_udp(const char *port)
{
	int fd = listen_on(SOCK_DGRAM, port);
	static char bytes[BATCH][PAYLOAD];
	struct mmsghdr messages[BATCH] = {};
	struct iovec parts[BATCH];

	for (int i = 0; i < BATCH; i++) {
		parts[i] = (struct iovec){ bytes[i], PAYLOAD };
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	puts("ready");
	for (;;)
		recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
}

static int by_size(const void *a, const void *b)
{
	__u32 x = *(const __u32 *)a, y = *(const __u32 *)b;

	return x < y ? -1 : x > y;
}

/* One connection at a time: connect() (timed), one byte each way, reset. */
static void connect_for(const struct sockaddr_in *to, const char *ms)
{
	static __u32 taken[SAMPLES];
	struct linger reset = { .l_onoff = 1 };
	struct timeval patience = { .tv_sec = 1 };
	__u64 began = now(), until = began + atoi(ms) * 1000000ULL, end;
	__u32 count = 0, failures = 0;

	while ((end = now()) < until && count < SAMPLES && failures < 10) {
		int fd = open_socket(SOCK_STREAM);
		char byte = 'x';
		__u64 start;
		bool done;

		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
			   sizeof(patience));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience,
			   sizeof(patience));
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		start = now();
		done = !connect(fd, (void *)to, sizeof(*to));
		taken[count] = now() - start;
		done = done && write(fd, &byte, 1) == 1 &&
		       read(fd, &byte, 1) == 1;
		close(fd);
		count += done;
		failures += !done;
	}
	qsort(taken, count, sizeof(*taken), by_size);
	printf("{\"count\":%u,\"failures\":%u,\"seconds\":%.6f,\"p50\":%u,"
	       "\"p99\":%u}\n",
	       count, failures, (end - began) / 1e9, taken[count / 2],
	       taken[(__u64)count * 99 / 100]);
}

/* One UDP flow, as fast as the kernel accepts it. */
static void flood_for(const struct sockaddr_in *to, const char *ms)
{
	int fd = open_socket(SOCK_DGRAM), sent;
	static char bytes[PAYLOAD];
	struct iovec part = { bytes, PAYLOAD };
	struct mmsghdr messages[BATCH] = {};
	__u64 began, until, end, count = 0;

	for (int i = 0; i < BATCH; i++) {
		messages[i].msg_hdr.msg_iov = &part;
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	if (connect(fd, (void *)to, sizeof(*to)))
		fail("connect");
	began = now();
	until = began + atoi(ms) * 1000000ULL;
	while ((end = now()) < until) {
		sent = sendmmsg(fd, messages, BATCH, 0);
		if (sent < 0)
			fail("sendmmsg");
		count += sent;
	}
	printf("{\"count\":%llu,\"seconds\":%.6f}\n", count,
	       (end - began) / 1e9);
}

/*
 * Calls connect() repeatedly to an address without a route: the hook of the
 * cgroup runs, no packet is sent, and the socket does not change. BPF
 * statistics are on as long as this process runs.
 */
static void ask_hook(const struct sockaddr_in *to, const char *calls,
		     bool is_fresh)
{
	union bpf_attr attr = { .enable_stats.type = BPF_STATS_RUN_TIME };
	int fd = open_socket(SOCK_STREAM);

	if (syscall(__NR_bpf, BPF_ENABLE_STATS, &attr, sizeof(attr)) < 0)
		fail("BPF_ENABLE_STATS");
	for (int left = atoi(calls); left > 0; left--) {
		if (is_fresh) {
			close(fd);
			fd = open_socket(SOCK_STREAM);
		}
		if (!connect(fd, (void *)to, sizeof(*to)) ||
		    errno != ENETUNREACH)
			fail("connect() did not end in ENETUNREACH");
	}
	puts("done");
}

int main(int argc, char **argv)
{
	const char *role = argc > 1 ? argv[1] : "";
	struct sockaddr_in to;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 3) {
		pin_to(sysconf(_SC_NPROCESSORS_ONLN) - 1);
		if (!strcmp(role, "serve-tcp"))
			serve_tcp(argv[2]);
		if (!strcmp(role, "serve-udp"))
			serve_udp(argv[2]);
	}
	if (argc != 5) {
		fputs("peer serve-tcp|serve-udp PORT; peer connect|flood "
		      "ADDRESS PORT MS; peer hook-same|hook-fresh ADDRESS PORT "
		      "CALLS\n",
		      stderr);
		return 2;
	}
	pin_to(0);
	to = address_of(argv[2], argv[3]);
	if (!strcmp(role, "connect"))
		connect_for(&to, argv[4]);
	else if (!strcmp(role, "flood"))
		flood_for(&to, argv[4]);
	else
		ask_hook(&to, argv[4], !strcmp(role, "hook-fresh"));
	return 0;
}
