// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writes standard input to a file descriptor of another process.
 *
 * pidfd_getfd(2) lends the descriptor: the same open file with the same
 * position, so that a test can use what only a daemon was given, such as an
 * anonymous fd of /dev/cachefiles, and block in it without blocking the daemon.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PROGRAM		"fd-write"
#define ALIGNMENT	4096	/* of the buffer: the file may be O_DIRECT */

enum {
	EXIT_USAGE = 2,
};

static const char help[] =
"Usage: " PROGRAM " PID FD PIECE [OFFSET]\n"
"\n"
"Writes standard input to the file descriptor FD of process PID, PIECE bytes with each\n"
"call: with write(2) where the descriptor stands, or with pwrite(2) from OFFSET on.\n"
"\n"
"Prints one JSON object for each call, {\"asked\":N,\"returned\":N,\"errno\":N}, and ends with\n"
"the first call that does not return what it was asked for.\n"
"\n"
"Exit codes: 0 all is written, 1 it is not, 2 wrong command line or no such descriptor.\n";

static bool parse(const char *word, long long least, long long *value)
{
	char *end;

	errno = 0;
	*value = strtoll(word, &end, 0);
	return !errno && end != word && !*end && *value >= least;
}

/* glibc has wrappers of these only since 2.36. */
static int borrow(long long pid, long long fd)
{
	int process = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	int borrowed;

	if (process < 0)
		return -1;
	borrowed = (int)syscall(SYS_pidfd_getfd, process, (int)fd, 0);
	close(process);
	return borrowed;
}

/* Reads a whole piece, or what is left. */
static size_t next_piece(char *buffer, size_t piece)
{
	size_t length = 0;
	ssize_t n;

	while (length < piece) {
		n = read(STDIN_FILENO, buffer + length, piece - length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		length += (size_t)n;
	}
	return length;
}

int main(int argc, char **argv)
{
	long long pid, wanted, piece, offset = -1;
	ssize_t n = 0;
	size_t length;
	void *buffer;
	int fd;

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		fputs(help, stdout);
		return EXIT_SUCCESS;
	}
	if (argc < 4 || argc > 5 || !parse(argv[1], 1, &pid) || !parse(argv[2], 0, &wanted) ||
	    !parse(argv[3], 1, &piece) || (argc == 5 && !parse(argv[4], 0, &offset))) {
		fputs(help, stderr);
		return EXIT_USAGE;
	}
	fd = borrow(pid, wanted);
	if (fd < 0) {
		fprintf(stderr, PROGRAM ": cannot get descriptor %s of process %s: %m\n",
			argv[2], argv[1]);
		return EXIT_USAGE;
	}
	if (posix_memalign(&buffer, ALIGNMENT, (size_t)piece)) {
		fputs(PROGRAM ": out of memory\n", stderr);
		return EXIT_FAILURE;
	}
	while ((length = next_piece(buffer, (size_t)piece)) > 0) {
		if (offset < 0)
			n = write(fd, buffer, length);
		else
			n = pwrite(fd, buffer, length, (off_t)offset);
		printf("{\"asked\":%zu,\"returned\":%zd,\"errno\":%d}\n", length, n, n < 0 ? errno : 0);
		if (n != (ssize_t)length)
			return EXIT_FAILURE;
		if (offset >= 0)
			offset += n;
	}
	return EXIT_SUCCESS;
}
