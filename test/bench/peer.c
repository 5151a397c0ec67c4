// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Clients and servers of the end-to-end rows of the benchmark. They are in C,
 * because a script would take longer than the measured operation. Servers
 * answer until they are killed. Clients run for the given time or count and
 * print one line of JSON. They must not depend on Sluice, and must send only to
 * the addresses in the arguments.
 */
#include "peer.h"
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>

#define SAMPLES (1 << 17) /* maximum per side and mode */
#define BATCH 32
#define PAYLOAD 64 /* bytes of a datagram */
#define BLOCK 64 /* consecutive connections to one side */
#define SIDES 2
#define MOST_TARGETS 4
#define MOST_SERVERS 4

/*
 * Echoes every byte. The client resets the connection. If the reset does not
 * arrive, a time limit ends the connection, since the server handles one
 * connection at a time.
 */
static void serve_tcp(const char *port)
{
	struct timeval patience = { .tv_usec = 100000 };
	int listener = listen_on(SOCK_STREAM, port);
	char byte;

	puts("ready");
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
			   sizeof(patience));
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

/*
 * The two modes of connect(). The SYN-ACK arrives before connect() sleeps
 * (INSIDE), or connect() sleeps until the SYN-ACK arrives (SLEPT), which takes
 * twice as long. The machine decides which of them happens. A voluntary context
 * switch of this thread shows that connect() slept.
 */
enum mode { INSIDE, SLEPT, MODES };

/* The connections to one kind of destination. */
struct side {
	struct sockaddr_in to[MOST_TARGETS]; /* picked at random */
	__u32 targets;
	__u32 taken[MODES][SAMPLES]; /* ns of connect() */
	__u32 count[MODES];
	__u32 failures;
	__u64 elapsed, client_cpu, server_cpu; /* ns */
};

/* The CPU clocks of the servers. */
struct servers {
	clockid_t clocks[MOST_SERVERS];
	__u32 count;
};

static int by_size(const void *a, const void *b)
{
	__u32 x = *(const __u32 *)a, y = *(const __u32 *)b;

	return x < y ? -1 : x > y;
}

static long sleeps(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_THREAD, &usage))
		fail("getrusage");
	return usage.ru_nvcsw;
}

/* xorshift32 */
static __u32 random_number(void)
{
	static __u32 state = 2463534242;

	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state;
}

static __u64 cpu_of(const struct servers *servers)
{
	__u64 sum = 0;

	for (__u32 i = 0; i < servers->count; i++)
		sum += read_clock(servers->clocks[i]);
	return sum;
}

/* Opens a connection: connect() (timed), one byte each way, reset. */
static void connect_once(struct side *side)
{
	const struct sockaddr_in *to =
		&side->to[random_number() % side->targets];
	struct linger reset = { .l_onoff = 1 };
	struct timeval patience = { .tv_sec = 1 };
	int fd = open_socket(SOCK_STREAM);
	enum mode mode;
	char byte = 'x';
	__u64 start, took;
	long before;
	bool done;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	before = sleeps();
	start = now();
	done = !connect(fd, (void *)to, sizeof(*to));
	took = now() - start;
	mode = sleeps() > before ? SLEPT : INSIDE;
	done = done && write(fd, &byte, 1) == 1 && read(fd, &byte, 1) == 1;
	close(fd);
	if (done && side->count[mode] < SAMPLES)
		side->taken[mode][side->count[mode]++] = took;
	side->failures += !done;
}

/* Makes BLOCK connections to one side, and adds the time that they took. */
static void connect_block(struct side *side, const struct servers *servers)
{
	__u64 server = cpu_of(servers), began = now();
	__u64 client = read_clock(CLOCK_PROCESS_CPUTIME_ID);

	for (int i = 0; i < BLOCK; i++)
		connect_once(side);
	side->client_cpu += read_clock(CLOCK_PROCESS_CPUTIME_ID) - client;
	side->elapsed += now() - began;
	side->server_cpu += cpu_of(servers) - server;
}

static __u32 quantile(const __u32 *sorted, __u32 count, __u32 percent)
{
	return count ? sorted[(__u64)(count - 1) * percent / 100] : 0;
}

static void print_side(struct side *side)
{
	static __u32 all[MODES * SAMPLES];
	__u32 total = 0;

	for (int mode = 0; mode < MODES; mode++) {
		memcpy(all + total, side->taken[mode],
		       side->count[mode] * sizeof(*all));
		total += side->count[mode];
		qsort(side->taken[mode], side->count[mode], sizeof(*all),
		      by_size);
	}
	qsort(all, total, sizeof(*all), by_size);
	printf("{\"count\":%u,\"failures\":%u,\"seconds\":%.6f,"
	       "\"clientNs\":%llu,\"serverNs\":%llu,\"p50\":%u,\"p99\":%u,"
	       "\"inside\":{\"count\":%u,\"p50\":%u},"
	       "\"slept\":{\"count\":%u,\"p50\":%u}}",
	       total, side->failures, side->elapsed / 1e9, side->client_cpu,
	       side->server_cpu, quantile(all, total, 50),
	       quantile(all, total, 99), side->count[INSIDE],
	       quantile(side->taken[INSIDE], side->count[INSIDE], 50),
	       side->count[SLEPT],
	       quantile(side->taken[SLEPT], side->count[SLEPT], 50));
}

/* "10.96.0.1:80,10.96.0.2:80" */
static void parse_targets(struct side *side, char *list)
{
	char *each;

	while ((each = strsep(&list, ","))) {
		char *address = strsep(&each, ":");

		if (!each || side->targets == MOST_TARGETS)
			fail("targets");
		side->to[side->targets++] = address_of(address, each);
	}
}

/* Process ids, separated by commas. */
static void parse_servers(struct servers *servers, char *list)
{
	char *each;

	while ((each = strsep(&list, ","))) {
		if (servers->count == MOST_SERVERS ||
		    clock_getcpuclockid(atoi(each),
					&servers->clocks[servers->count++]))
			fail("servers");
	}
}

/*
 * Alternates between BLOCK connections to one side and BLOCK connections to the
 * other side, so that the state of the machine is the same for both sides.
 */
static void connect_for(const char *ms, char *pids, char *lists[SIDES])
{
	static struct side sides[SIDES];
	struct servers servers = {};
	__u64 until = now() + atoi(ms) * 1000000ULL;

	parse_servers(&servers, pids);
	for (int i = 0; i < SIDES; i++)
		parse_targets(&sides[i], lists[i]);
	while (now() < until && sides[0].failures + sides[1].failures < 10) {
		for (int i = 0; i < SIDES; i++)
			connect_block(&sides[i], &servers);
	}
	printf("[");
	print_side(&sides[0]);
	printf(",");
	print_side(&sides[1]);
	printf("]\n");
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
	int fd = open_socket(SOCK_STREAM);

	enable_bpf_statistics();
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

static void serve(const char *role, const char *port)
{
	pin_server();
	if (!strcmp(role, "serve-tcp"))
		serve_tcp(port);
	if (!strcmp(role, "serve-udp"))
		serve_udp(port);
}

int main(int argc, char **argv)
{
	const char *role = argc > 1 ? argv[1] : "";
	struct sockaddr_in to;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 3)
		serve(role, argv[2]);
	pin_client();
	if (argc == 6 && !strcmp(role, "connect")) {
		connect_for(argv[2], argv[3], argv + 4);
		return 0;
	}
	if (argc != 5) {
		fputs("peer serve-tcp|serve-udp PORT; peer connect MS "
		      "SERVER-PID,... ADDRESS:PORT,... ADDRESS:PORT,...; "
		      "peer flood ADDRESS PORT MS; peer hook-same|hook-fresh "
		      "ADDRESS PORT CALLS\n",
		      stderr);
		return 2;
	}
	to = address_of(argv[2], argv[3]);
	if (!strcmp(role, "flood"))
		flood_for(&to, argv[4]);
	else
		ask_hook(&to, argv[4], !strcmp(role, "hook-fresh"));
	return 0;
}
