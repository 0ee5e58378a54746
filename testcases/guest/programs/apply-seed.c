// SPDX-License-Identifier: GPL-2.0-only
/*
 * Applies the seed of a guest: what makes it differ from all others that were
 * restored from the same saved machine.
 *
 * The seed is a tar archive, and is there as soon as the first sector of a disk
 * is not zero. Its members become files below the root, but for two: run/time
 * sets the clock, and run/entropy, which the host made for this guest alone, is
 * credited to the kernel's random number generator, which then drops its old
 * state (random(4), RNDADDENTROPY and RNDRESEEDCRNG).
 *
 * One program does it all because on a host without hardware virtualisation a
 * restored machine has no translated code yet: starting another program would
 * take longer than the work.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM		"apply-seed"
#define SECTOR_BYTES	512
/* Much more than keys take. */
#define MOST_BYTES	(64 * 1024)
/* As much alignment as any disk asks of O_DIRECT. */
#define ALIGNMENT	4096
#define ENTROPY_BYTES	64
#define NANOSECONDS	1000000000LL
#define PAUSE_NANOSECONDS 10000000L
#define WAITING		"lab: waiting for its seed\n"

enum {
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
};

/* The header of a member, of which the rest is padding here (POSIX.1-1988, ustar). */
struct member {
	char name[100];
	char mode[8], uid[8], gid[8];
	char size[12];
	char rest[SECTOR_BYTES - 136];
};

static const char help[] =
"Usage: " PROGRAM " DISK\n"
"\n"
"Logs that it waits, until the first 512 bytes of DISK are not all zero. DISK then has a tar archive:\n"
"the clock is set to run/time, in nanoseconds since 1970; the kernel's random number generator is reseeded\n"
"with the 64 bytes of run/entropy; all else becomes files below /, for root alone.\n"
"\n"
"Exit codes: 0 done, 1 a part failed, 2 wrong command line.\n";

static bool all_zero(const char *bytes, size_t count)
{
	while (count--)
		if (*bytes++)
			return false;
	return true;
}

/* The machine may be saved from now on. Why this goes to the kernel log: see /lab/start. */
static int say_waiting(void)
{
	int log = open("/dev/kmsg", O_WRONLY);

	if (log < 0)
		return -1;
	if (write(log, WAITING, strlen(WAITING)) < 0) {
		close(log);
		return -1;
	}
	return close(log);
}

/*
 * Past the page cache, so that what the host writes into the disk's file while
 * the guest runs is seen.
 */
static ssize_t read_when_written(const char *name, char *bytes)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NANOSECONDS };
	int disk = open(name, O_RDONLY | O_DIRECT);
	ssize_t count;

	if (disk < 0)
		return -1;
	/* All of it once, so that a restored machine does nothing of this for the first time. */
	if (pread(disk, bytes, MOST_BYTES, 0) < SECTOR_BYTES || say_waiting()) {
		close(disk);
		return -1;
	}
	while ((count = pread(disk, bytes, SECTOR_BYTES, 0)) == SECTOR_BYTES &&
	       all_zero(bytes, SECTOR_BYTES))
		nanosleep(&pause, NULL);
	if (count == SECTOR_BYTES)
		count = pread(disk, bytes, MOST_BYTES, 0);
	close(disk);
	return count;
}

static int set_clock(const char *text, size_t length)
{
	char digits[32] = "";
	long long nanoseconds;
	struct timespec now;

	if (length >= sizeof(digits)) {
		errno = EINVAL;
		return -1;
	}
	memcpy(digits, text, length);
	nanoseconds = strtoll(digits, NULL, 10);
	now.tv_sec = nanoseconds / NANOSECONDS;
	now.tv_nsec = nanoseconds % NANOSECONDS;
	return clock_settime(CLOCK_REALTIME, &now);
}

static int reseed(const char *entropy, size_t length)
{
	union {
		struct rand_pool_info info;
		char bytes[sizeof(struct rand_pool_info) + ENTROPY_BYTES];
	} pool;
	int random;

	if (length != ENTROPY_BYTES) {
		errno = ENODATA;
		return -1;
	}
	memcpy(pool.info.buf, entropy, ENTROPY_BYTES);
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

static int write_file(const char *name, const char *content, size_t length)
{
	int file = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);

	if (file < 0)
		return -1;
	if (write(file, content, length) != (ssize_t)length) {
		close(file);
		return -1;
	}
	return close(file);
}

/* Returns 1 for run/time and run/entropy, which must both be there, 0 for other members, -1 on failure. */
static int apply_member(const char *name, const char *content, size_t length)
{
	if (!strcmp(name, "run/time"))
		return set_clock(content, length) ? -1 : 1;
	if (!strcmp(name, "run/entropy"))
		return reseed(content, length) ? -1 : 1;
	return write_file(name, content, length);
}

static int unpack(const char *bytes, size_t count)
{
	const struct member *member;
	char name[sizeof(member->name) + 1] = "";
	size_t at = 0, length;
	int done = 0, more;

	while (at + SECTOR_BYTES <= count && bytes[at]) {
		member = (const struct member *)(bytes + at);
		memcpy(name, member->name, sizeof(member->name));
		length = strtoul(member->size, NULL, 8);
		at += SECTOR_BYTES;
		if (length > count - at) {
			errno = ENODATA;
			goto failed;
		}
		more = apply_member(name, bytes + at, length);
		if (more < 0)
			goto failed;
		done += more;
		at += (length + SECTOR_BYTES - 1) / SECTOR_BYTES * SECTOR_BYTES;
	}
	if (done == 2)
		return 0;
	fputs(PROGRAM ": run/time or run/entropy is not in the archive\n", stderr);
	return EXIT_FAILED;

failed:
	fprintf(stderr, PROGRAM ": %s: %s\n", name, strerror(errno));
	return EXIT_FAILED;
}

int main(int argc, char **argv)
{
	static char bytes[MOST_BYTES] __attribute__((aligned(ALIGNMENT)));
	ssize_t count;

	if (argc != 2) {
		fputs(help, stderr);
		return EXIT_USAGE;
	}
	count = read_when_written(argv[1], bytes);
	if (count < SECTOR_BYTES || chdir("/")) {
		fprintf(stderr, PROGRAM ": %s: %s\n", argv[1], count < 0 ? strerror(errno) : "too small");
		return EXIT_FAILED;
	}
	return unpack(bytes, count);
}
