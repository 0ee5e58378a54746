// SPDX-License-Identifier: GPL-2.0-only
/*
 * truncate(2) by a file's name. truncate(1) opens the file for writing first, which network filesystems see.
 *
 *	truncate-path FILE SIZE
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char *end;
	long long size;

	if (argc != 3) {
		fprintf(stderr, "usage: %s FILE SIZE\n", argv[0]);
		return 2;
	}
	size = strtoll(argv[2], &end, 10);
	if (*end || end == argv[2]) {
		fprintf(stderr, "%s: not a size: %s\n", argv[0], argv[2]);
		return 2;
	}
	if (truncate(argv[1], size)) {
		fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	return 0;
}
