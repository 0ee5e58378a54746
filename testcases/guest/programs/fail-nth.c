// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does a few system calls, of which some with one allocation made to fail.
 *
 * /proc/thread-self/fail-nth makes the N-th failure of this task happen, of all
 * those that could be injected (Documentation/fault-injection/fault-injection.rst).
 * It is set right before the steps that are to be tested and taken back right
 * behind them: nothing else of the guest is ever hit.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/cachefiles.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PROGRAM		"fail-nth"
#define BUFFER		(1024 * 1024)
#define ALIGNMENT	4096	/* of the buffer: the file may be O_DIRECT */
#define SEPARATOR	","
#define INJECT		"inject"

enum {
	EXIT_USAGE = 2,
	EXIT_PREPARATION = 3,
};

static const char help[] =
"Usage: " PROGRAM " N [STEP " SEPARATOR "]... " INJECT " " SEPARATOR " STEP [" SEPARATOR " STEP]...\n"
"\n"
"Does the steps in their order, until one fails. In those behind '" INJECT "' the N-th allocation\n"
"that can be made to fail does so; with 0 none does.\n"
"\n"
"    open PATH, view PATH      open for reading and writing, for reading only\n"
"    borrow PID LINK           take the descriptor of another process that /proc/PID/fd shows as LINK\n"
"    close                     close what was opened or borrowed last; all other steps use it\n"
"    write TEXT                one write(2)\n"
"    data PATH                 what write-at writes; for preparation\n"
"    write-at OFFSET BYTES     pwrite(2) of the data from OFFSET on, to OFFSET\n"
"    read BYTES                one read(2)\n"
"    complete MSGID            the ioctl by which a daemon says that a READ is done\n"
"    chdir PATH\n"
"    mount TYPE FOLDER OPTIONS, remount FOLDER OPTIONS, umount FOLDER\n"
"    load FILE, unload NAME    a kernel module\n"
"\n"
"Prints one JSON object: the last step that was tested, what its system call returned, errno (0:\n"
"all is well), whether a failure was injected, and the process's number.\n"
"\n"
"Exit codes: 0 the steps were tested, whatever came of them; 2 wrong command line; 3 a step of the\n"
"preparation failed, or there is no fault injection.\n";

static int current = -1;
static char *buffer;

static __attribute__((noreturn)) void usage_error(const char *word)
{
	fprintf(stderr, PROGRAM ": '%s' is not as it should be; try '" PROGRAM " --help'\n", word);
	exit(EXIT_USAGE);
}

static __attribute__((noreturn)) void preparation_failed(const char *step)
{
	fprintf(stderr, PROGRAM ": preparation: %s: %m\n", step);
	exit(EXIT_PREPARATION);
}

static long long number(const char *word)
{
	long long value;
	char *end;

	errno = 0;
	value = strtoll(word, &end, 0);
	if (errno || end == word || *end || value < 0)
		usage_error(word);
	return value;
}

/* ---- steps: each returns what its system call did ------------------------ */

static long step_open(char **words)
{
	current = open(words[0], O_RDWR | O_CLOEXEC);
	return current;
}

static long step_view(char **words)
{
	current = open(words[0], O_RDONLY | O_CLOEXEC);
	return current;
}

/* The number of a descriptor of another process, by what it refers to; -1 with ENOENT for none. */
static int find_descriptor(const char *process, const char *wanted)
{
	char folder[64], target[256];
	struct dirent *entry;
	int found = -1;
	ssize_t length;
	DIR *files;

	snprintf(folder, sizeof(folder), "/proc/%s/fd", process);
	files = opendir(folder);
	if (!files)
		return -1;
	while (found < 0 && (entry = readdir(files))) {
		length = readlinkat(dirfd(files), entry->d_name, target, sizeof(target) - 1);
		if (length < 0)
			continue;
		target[length] = '\0';
		if (!strcmp(target, wanted))
			found = atoi(entry->d_name);
	}
	closedir(files);
	if (found < 0)
		errno = ENOENT;
	return found;
}

/* glibc has wrappers of these only since 2.36. */
static long step_borrow(char **words)
{
	int fd = find_descriptor(words[0], words[1]);
	int process;

	if (fd < 0)
		return -1;
	process = (int)syscall(SYS_pidfd_open, (pid_t)number(words[0]), 0);
	if (process < 0)
		return -1;
	current = (int)syscall(SYS_pidfd_getfd, process, fd, 0);
	close(process);
	return current;
}

static long step_close(char **words)
{
	(void)words;
	return close(current);
}

static long step_write(char **words)
{
	return write(current, words[0], strlen(words[0]));
}

static long step_data(char **words)
{
	int fd = open(words[0], O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, buffer, BUFFER);
	close(fd);
	return n;
}

static long step_write_at(char **words)
{
	long long offset = number(words[0]), bytes = number(words[1]);

	if (offset + bytes > BUFFER) {
		errno = EFBIG;
		return -1;
	}
	return pwrite(current, buffer + offset, (size_t)bytes, (off_t)offset);
}

static long step_read(char **words)
{
	long long bytes = number(words[0]);

	return read(current, buffer, bytes < BUFFER ? (size_t)bytes : BUFFER);
}

static long step_complete(char **words)
{
	return ioctl(current, CACHEFILES_IOC_READ_COMPLETE, (unsigned long)number(words[0]));
}

static long step_chdir(char **words)
{
	return chdir(words[0]);
}

static long step_mount(char **words)
{
	return mount("none", words[1], words[0], MS_RDONLY, words[2]);
}

static long step_remount(char **words)
{
	return mount("none", words[0], NULL, MS_REMOUNT | MS_RDONLY, words[1]);
}

static long step_umount(char **words)
{
	return umount2(words[0], 0);
}

static long step_load(char **words)
{
	long result;
	int fd = open(words[0], O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	result = syscall(SYS_finit_module, fd, "", 0);
	close(fd);
	return result;
}

static long step_unload(char **words)
{
	return syscall(SYS_delete_module, words[0], O_NONBLOCK);
}

struct step {
	const char *name;
	int arguments;
	long (*take)(char **words);
};

static const struct step steps[] = {
	{ "open", 1, step_open },
	{ "view", 1, step_view },
	{ "borrow", 2, step_borrow },
	{ "close", 0, step_close },
	{ "write", 1, step_write },
	{ "data", 1, step_data },
	{ "write-at", 2, step_write_at },
	{ "read", 1, step_read },
	{ "complete", 1, step_complete },
	{ "chdir", 1, step_chdir },
	{ "mount", 3, step_mount },
	{ "remount", 2, step_remount },
	{ "umount", 1, step_umount },
	{ "load", 1, step_load },
	{ "unload", 1, step_unload },
};

static const struct step *find_step(const char *name)
{
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		if (!strcmp(steps[i].name, name))
			return &steps[i];
	usage_error(name);
}

/* ---- injection ----------------------------------------------------------- */

/* Opened before, so that only a write(2) lies between it and the steps. */
static int open_control(void)
{
	int fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		preparation_failed("/proc/thread-self/fail-nth");
	return fd;
}

static void set_nth(int control, const char *nth)
{
	if (pwrite(control, nth, strlen(nth), 0) < 0)
		preparation_failed("/proc/thread-self/fail-nth");
}

/* What is left of N: 0 once the failure was injected. */
static long get_nth(int control)
{
	char text[32];
	ssize_t n = pread(control, text, sizeof(text) - 1, 0);

	if (n < 0)
		preparation_failed("/proc/thread-self/fail-nth");
	text[n] = '\0';
	return atol(text);
}

/* ---- the command line ---------------------------------------------------- */

/* How many words the step that begins here has, its name included. */
static int length_of(char **words)
{
	int length = 0;

	while (words[length] && strcmp(words[length], SEPARATOR))
		length++;
	return length;
}

static char **behind(char **words)
{
	words += length_of(words);
	return *words ? words + 1 : words;
}

/* Before anything is done, so that a wrong word costs nothing. */
static char **check(char **words)
{
	char **tested = NULL;

	for (; *words; words = behind(words)) {
		if (!strcmp(*words, INJECT) && !tested)
			tested = behind(words);
		else if (length_of(words) - 1 != find_step(*words)->arguments)
			usage_error(*words);
	}
	if (!tested || !*tested)
		usage_error(INJECT);
	return tested;
}

int main(int argc, char **argv)
{
	char **words, **tested, *name = NULL;
	long long nth, left;
	long returned = 0;
	int control, error;

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		fputs(help, stdout);
		return EXIT_SUCCESS;
	}
	if (argc < 4) {
		fputs(help, stderr);
		return EXIT_USAGE;
	}
	nth = number(argv[1]);
	tested = check(argv + 2);
	if (posix_memalign((void **)&buffer, ALIGNMENT, BUFFER))
		preparation_failed("memory");
	memset(buffer, 0xa5, BUFFER);
	for (words = argv + 2; strcmp(*words, INJECT); words = behind(words))
		if (find_step(*words)->take(words + 1) < 0)
			preparation_failed(*words);
	/* Page faults allocate, too, and are not what is tested. */
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		preparation_failed("mlockall");
	control = open_control();

	set_nth(control, argv[1]);
	for (words = tested; *words && returned >= 0; words = behind(words)) {
		name = *words;
		returned = find_step(name)->take(words + 1);
	}
	error = errno;
	left = get_nth(control);
	set_nth(control, "0");

	printf("{\"step\":\"%s\",\"returned\":%ld,\"errno\":%d,\"injected\":%s,\"pid\":%d}\n", name,
	       returned, returned < 0 ? error : 0, nth && !left ? "true" : "false", (int)getpid());
	return EXIT_SUCCESS;
}
