// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Real connections for the in-situ rows of the benchmark. The server accepts
 * any number of connections. The client either holds thousands of connections
 * or opens them one after the other. Each line on stdin starts a round, and a
 * round uses each connection once. The kernel counts the runs of BPF programs
 * only during a round. This program must not depend on Sluice, and must send
 * only to the addresses in its arguments.
 */
#include "peer.h"
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>

#define EVENTS 256
#define WORKERS 4
#define LINE 64
#define SPARE_FILES 64 /* files for stdio and statistics */

/* Raises the limit of open files to its maximum. Exits if that is too low. */
static void allow_files(rlim_t count)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		fail("getrlimit");
	if (count > limit.rlim_max) {
		fprintf(stderr, "%lu open files are needed, %lu are allowed\n",
			(unsigned long)count, (unsigned long)limit.rlim_max);
		exit(1);
	}
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		fail("setrlimit");
}

static void watch(int poll, int fd)
{
	struct epoll_event wanted = { .events = EPOLLIN, .data.fd = fd };

	if (fd < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, fd, &wanted))
		fail("watch");
}

/* Echoes what arrives on any connection. */
static void echo(int listener)
{
	static struct epoll_event events[EVENTS];
	int poll = epoll_create1(0);
	char bytes[LINE];

	watch(poll, listener);
	for (;;) {
		int count = epoll_wait(poll, events, EVENTS, -1);

		for (int i = 0; i < count; i++) {
			int fd = events[i].data.fd;
			ssize_t got;

			if (fd == listener) {
				watch(poll, accept(listener, NULL, NULL));
				continue;
			}
			got = read(fd, bytes, sizeof(bytes));
			if (got <= 0 || write(fd, bytes, got) != got)
				close(fd);
		}
	}
}

/* Several processes share the connections, since each may have few files. */
static void serve(const char *port)
{
	int listeners[WORKERS];

	allow_files(0);
	for (int i = 0; i < WORKERS; i++)
		listeners[i] = listen_on(SOCK_STREAM, port);
	for (int i = 1; i < WORKERS; i++) {
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			echo(listeners[i]);
		}
	}
	puts("ready");
	echo(listeners[0]);
}

/* The destinations and the source ports of the connections. */
struct plan {
	struct sockaddr_in first;
	__u32 count;
	__u32 addresses, ports; /* used in turn, starting at `first` */
	__u16 source_port; /* port of the first connection; 0: any port */
};

/*
 * Each connection that is held has its own source port. Otherwise the kernel
 * could use the same port for connections to two VIPs. At a common backend both
 * connections would then have the same addresses and ports.
 */
static int open_connection(const struct plan *plan, __u32 i)
{
	struct sockaddr_in to = plan->first, from = { .sin_family = AF_INET };
	struct timeval patience = { .tv_sec = 5 };
	int fd = open_socket(SOCK_STREAM), yes = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	from.sin_port = htons(plan->source_port + i);
	if (plan->source_port && bind(fd, (void *)&from, sizeof(from)))
		fail("bind");
	to.sin_addr.s_addr =
		htonl(ntohl(to.sin_addr.s_addr) + i % plan->addresses);
	to.sin_port = htons(ntohs(to.sin_port) + i % plan->ports);
	if (connect(fd, (void *)&to, sizeof(to)))
		fail("connect");
	return fd;
}

static void exchange(int fd)
{
	char byte = 'x';

	if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
		fail("no answer on a connection");
}

/* A connection from SYN to RST. */
static void open_and_reset(const struct plan *plan, __u32 i)
{
	struct linger reset = { .l_onoff = 1 };
	int fd = open_connection(plan, i);

	exchange(fd);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
}

/* `held`: the open connections. NULL: each exchange opens a new one. */
static void go_round(const struct plan *plan, const int *held)
{
	int statistics = enable_bpf_statistics();

	for (__u32 i = 0; i < plan->count; i++) {
		if (held)
			exchange(held[i]);
		else
			open_and_reset(plan, i);
	}
	close(statistics);
	printf("%u\n", plan->count);
}

int main(int argc, char **argv)
{
	struct plan plan = {};
	char line[LINE];
	int *held = NULL;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 3 && !strcmp(argv[1], "serve")) {
		pin_server();
		serve(argv[2]);
	}
	if (argc != 8) {
		fputs("flows serve PORT; flows hold|open COUNT "
		      "SOURCE-PORT ADDRESS PORT ADDRESSES PORTS\n",
		      stderr);
		return 2;
	}
	pin_client();
	plan.count = atoi(argv[2]);
	plan.source_port = atoi(argv[3]);
	plan.first = address_of(argv[4], argv[5]);
	plan.addresses = atoi(argv[6]);
	plan.ports = atoi(argv[7]);
	if (!strcmp(argv[1], "hold")) {
		allow_files(plan.count + SPARE_FILES);
		held = calloc(plan.count, sizeof(*held));
		if (!held)
			fail("calloc");
		for (__u32 i = 0; i < plan.count; i++) {
			held[i] = open_connection(&plan, i);
			exchange(held[i]);
		}
	}
	puts("ready");
	while (fgets(line, sizeof(line), stdin))
		go_round(&plan, held);
	return 0;
}
