// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes a guest that was restored from a saved machine differ from all others.
 *
 * Sets the clock, and has the kernel's random number generator forget what it
 * shares with the guests restored from the same machine: entropy that the host
 * made for this guest alone is credited, and the generator is reseeded at once
 * (random(4), RNDADDENTROPY and RNDRESEEDCRNG).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM		"become-unique"
#define ENTROPY_BYTES	64
#define NANOSECONDS	1000000000LL

enum {
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
};

static const char help[] =
"Usage: " PROGRAM " NANOSECONDS FILE\n"
"\n"
"Sets the clock to NANOSECONDS since 1970, and reseeds the kernel's random number generator\n"
"with the first 64 bytes of FILE.\n"
"\n"
"Exit codes: 0 both is done, 1 it is not, 2 wrong command line.\n";

static int failed(const char *what)
{
	fprintf(stderr, PROGRAM ": %s: %s\n", what, strerror(errno));
	return EXIT_FAILED;
}

static int set_clock(long long nanoseconds)
{
	struct timespec now = {
		.tv_sec = nanoseconds / NANOSECONDS,
		.tv_nsec = nanoseconds % NANOSECONDS,
	};

	return clock_settime(CLOCK_REALTIME, &now);
}

static int reseed(const char *file)
{
	union {
		struct rand_pool_info info;
		char bytes[sizeof(struct rand_pool_info) + ENTROPY_BYTES];
	} pool;
	int source = open(file, O_RDONLY);
	int random;
	ssize_t count;

	if (source < 0)
		return -1;
	count = read(source, pool.info.buf, ENTROPY_BYTES);
	close(source);
	if (count != ENTROPY_BYTES) {
		errno = ENODATA;
		return -1;
	}
	pool.info.buf_size = ENTROPY_BYTES;
	pool.info.entropy_count = ENTROPY_BYTES * 8;
	random = open("/dev/urandom", O_WRONLY);
	if (random < 0)
		return -1;
	if (ioctl(random, RNDADDENTROPY, &pool) || ioctl(random, RNDRESEEDCRNG)) {
		close(random);
		return -1;
	}
	return close(random);
}

int main(int argc, char **argv)
{
	long long nanoseconds;
	char *end;

	if (argc != 3) {
		fputs(help, stderr);
		return EXIT_USAGE;
	}
	nanoseconds = strtoll(argv[1], &end, 10);
	if (*end || nanoseconds <= 0) {
		fputs(help, stderr);
		return EXIT_USAGE;
	}
	if (set_clock(nanoseconds))
		return failed("the clock");
	if (reseed(argv[2]))
		return failed(argv[2]);
	return 0;
}
