// SPDX-License-Identifier: GPL-2.0-only
/*
 * Waits until something is on a disk whose first sector was zero.
 *
 * The sector is read past the page cache, so that what the host writes into
 * the disk's file while the guest runs is seen.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM		"await-disk"
#define SECTOR_BYTES	512
/* As much alignment as any disk asks of O_DIRECT. */
#define ALIGNMENT	4096
#define PAUSE_NANOSECONDS 10000000L

enum {
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
};

static const char help[] =
"Usage: " PROGRAM " DISK\n"
"\n"
"Waits until the first 512 bytes of DISK are not all zero.\n"
"\n"
"Exit codes: 0 there is something, 1 the disk cannot be read, 2 wrong command line.\n";

static bool all_zero(const char *bytes, size_t count)
{
	while (count--)
		if (*bytes++)
			return false;
	return true;
}

int main(int argc, char **argv)
{
	static char sector[SECTOR_BYTES] __attribute__((aligned(ALIGNMENT)));
	const struct timespec pause = { .tv_nsec = PAUSE_NANOSECONDS };
	ssize_t count;
	int disk;

	if (argc != 2) {
		fputs(help, stderr);
		return EXIT_USAGE;
	}
	disk = open(argv[1], O_RDONLY | O_DIRECT);
	if (disk < 0)
		goto failed;
	for (;;) {
		count = pread(disk, sector, sizeof(sector), 0);
		if (count < 0)
			goto failed;
		if (count == sizeof(sector) && !all_zero(sector, sizeof(sector)))
			return 0;
		nanosleep(&pause, NULL);
	}

failed:
	fprintf(stderr, PROGRAM ": %s: %s\n", argv[1], strerror(errno));
	return EXIT_FAILED;
}
