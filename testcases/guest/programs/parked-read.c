// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reads a file descriptor of another process, and parks in the middle of it.
 *
 * The memory that is read into has no page, and userfaultfd(2) withholds one:
 * the kernel's copy_to_user() waits for it, in read(2), as long as a test
 * likes. The descriptor is borrowed with pidfd_getfd(2); descriptors that the
 * kernel makes for the reader, such as the anonymous fds of /dev/cachefiles,
 * are this program's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PROGRAM		"parked-read"
#define LENGTH		4096UL	/* one page on x86-64 */

enum {
	EXIT_USAGE = 2,
};

static const char help[] =
"Usage: " PROGRAM " PID FD\n"
"\n"
"Reads at most 4096 bytes from the file descriptor FD of process PID with one read(2), which\n"
"waits in the kernel when it begins to copy to this program's memory, until SIGUSR1 comes.\n"
"\n"
"Prints a JSON object when it waits, {\"event\":\"parked\"}, and one when read(2) has returned,\n"
"{\"event\":\"read\",\"returned\":N,\"errno\":N}. Then it waits for a signal that ends it, and keeps\n"
"the descriptors that the kernel gave it.\n"
"\n"
"Exit codes: 1 no userfaultfd, 2 wrong command line or no such descriptor.\n";

struct memory {
	int faults;		/* of userfaultfd(2) */
	void *page;
};

static bool parse(const char *word, long *value)
{
	char *end;

	errno = 0;
	*value = strtol(word, &end, 0);
	return !errno && end != word && !*end && *value >= 0;
}

/* glibc has wrappers of these only since 2.36. */
static int borrow(long pid, long fd)
{
	int process = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	int borrowed;

	if (process < 0)
		return -1;
	borrowed = (int)syscall(SYS_pidfd_getfd, process, (int)fd, 0);
	close(process);
	return borrowed;
}

/* Memory whose first access waits for parking(). */
static bool withhold(struct memory *memory)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = {
		.range = { .len = LENGTH },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	memory->page = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory->page == MAP_FAILED)
		return false;
	memory->faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (memory->faults < 0)
		return false;
	range.range.start = (uintptr_t)memory->page;
	return !ioctl(memory->faults, UFFDIO_API, &api) &&
	       !ioctl(memory->faults, UFFDIO_REGISTER, &range);
}

static void *parking(void *argument)
{
	struct memory *memory = argument;
	struct uffdio_zeropage zeros = {
		.range = { .start = (uintptr_t)memory->page, .len = LENGTH },
	};
	struct uffd_msg fault;
	sigset_t go_on;
	int signal;

	sigemptyset(&go_on);
	sigaddset(&go_on, SIGUSR1);
	if (read(memory->faults, &fault, sizeof(fault)) != sizeof(fault))
		return NULL;
	puts("{\"event\":\"parked\"}");
	sigwait(&go_on, &signal);
	ioctl(memory->faults, UFFDIO_ZEROPAGE, &zeros);
	return NULL;
}

int main(int argc, char **argv)
{
	struct memory memory;
	pthread_t thread;
	sigset_t go_on;
	long pid, wanted;
	ssize_t n;
	int fd;

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		fputs(help, stdout);
		return EXIT_SUCCESS;
	}
	if (argc != 3 || !parse(argv[1], &pid) || !parse(argv[2], &wanted)) {
		fputs(help, stderr);
		return EXIT_USAGE;
	}
	fd = borrow(pid, wanted);
	if (fd < 0) {
		fprintf(stderr, PROGRAM ": cannot get descriptor %s of process %s: %m\n",
			argv[2], argv[1]);
		return EXIT_USAGE;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigemptyset(&go_on);
	sigaddset(&go_on, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &go_on, NULL);
	if (!withhold(&memory) || pthread_create(&thread, NULL, parking, &memory)) {
		perror(PROGRAM ": cannot withhold a page");
		return EXIT_FAILURE;
	}
	n = read(fd, memory.page, LENGTH);
	printf("{\"event\":\"read\",\"returned\":%zd,\"errno\":%d}\n", n, n < 0 ? errno : 0);
	pause();
	return EXIT_SUCCESS;
}
