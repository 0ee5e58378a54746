// SPDX-License-Identifier: GPL-2.0-only
/*
 * A user daemon for /dev/cachefiles whose misbehaviour is scripted.
 *
 * It speaks the protocol of Documentation/filesystems/caching/cachefiles.rst
 * (on-demand mode, and the plain classic "bind"). A rule for each event says
 * how it behaves: correctly, late, never, wrongly, or by dying. All it does is
 * written to a log, one JSON object a line, and while it runs it takes
 * commands over a unix socket. The same binary is the client of that socket
 * ("--tell") and can wait for a line of a log ("--await").
 *
 * One thread, one epoll loop. A request that is held or late lies in a list
 * until it is released or due.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/cachefiles.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM			"ondemand-daemon"
#define DEFAULT_DEVICE		"/dev/cachefiles"
#define DEFAULT_AWAIT_SECONDS	30.0
#define DEFAULT_TELL_SECONDS	60.0
#define DEVICE_RETRY_US		20000	/* --wait-device: there is nothing to be woken by */
#define EMPTY_READ_PAUSE	0.010	/* seconds before a silent device is read again */
#define MANY_EMPTY_READS	100	/* in a row: the device says it is readable, and is not */
#define FILL_CHUNK		(64 * 1024)	/* of one write(2) of many */
#define BLOCK			4096ULL	/* O_DIRECT writes are done in whole pages */
#define CHUNK			(1024 * 1024)
#define COMMAND_MAX		8192
#define ANSWER_SECONDS		5	/* a client that does not read is dropped after this */

enum {
	EXIT_USAGE = 2,
	EXIT_TIMEOUT = 124,
};

/* ---- words of the command line ----------------------------------------- */

enum event {
	EVENT_OPEN,
	EVENT_CLOSE,
	EVENT_READ,
	EVENT_ANY,		/* in rules only */
	EVENT_COUNT,
};

static const char * const event_names[EVENT_COUNT] = {
	[EVENT_OPEN]	= "open",
	[EVENT_CLOSE]	= "close",
	[EVENT_READ]	= "read",
	[EVENT_ANY]	= "any",
};

enum action_kind {
	ACTION_ANSWER,
	ACTION_LATE,
	ACTION_HOLD,
	ACTION_IGNORE,
	ACTION_ERROR,
	ACTION_SIZE,
	ACTION_ZEROS,
	ACTION_GARBAGE,
	ACTION_CLOSE_FD,
	ACTION_CLOSE_FD_FIRST,
	ACTION_FILL,
	ACTION_STOP,
	ACTION_EXIT,
	ACTION_KILL,
	ACTION_CLOSE_DEVICE,
};

enum argument {
	ARGUMENT_NONE,
	ARGUMENT_NUMBER,
	ARGUMENT_ERRNO,
};

struct action_word {
	const char *name;
	enum argument argument;
	bool open, read, close;		/* the events it makes sense for */
};

static const struct action_word action_words[] = {
	[ACTION_ANSWER]		= { "answer",	      ARGUMENT_NONE,   true,  true,  true  },
	[ACTION_LATE]		= { "late",	      ARGUMENT_NUMBER, true,  true,  true  },
	[ACTION_HOLD]		= { "hold",	      ARGUMENT_NONE,   true,  true,  true  },
	[ACTION_IGNORE]		= { "ignore",	      ARGUMENT_NONE,   true,  true,  true  },
	[ACTION_ERROR]		= { "error",	      ARGUMENT_ERRNO,  true,  true,  false },
	[ACTION_SIZE]		= { "size",	      ARGUMENT_NUMBER, true,  false, false },
	[ACTION_ZEROS]		= { "zeros",	      ARGUMENT_NONE,   false, true,  false },
	[ACTION_GARBAGE]	= { "garbage",	      ARGUMENT_NONE,   false, true,  false },
	[ACTION_CLOSE_FD]	= { "close-fd",	      ARGUMENT_NONE,   true,  true,  true  },
	[ACTION_CLOSE_FD_FIRST]	= { "close-fd-first", ARGUMENT_NONE,   true,  true,  true  },
	[ACTION_FILL]		= { "fill",	      ARGUMENT_NONE,   false, true,  false },
	[ACTION_STOP]		= { "stop",	      ARGUMENT_NONE,   true,  true,  true  },
	[ACTION_EXIT]		= { "exit",	      ARGUMENT_NONE,   true,  true,  true  },
	[ACTION_KILL]		= { "kill",	      ARGUMENT_NONE,   true,  true,  true  },
	[ACTION_CLOSE_DEVICE]	= { "close-device",   ARGUMENT_NONE,   true,  true,  true  },
};

enum mode {
	MODE_ONDEMAND,
	MODE_CLASSIC,
	MODE_NONE,
};

static const char * const mode_names[] = {
	[MODE_ONDEMAND]	= "ondemand",
	[MODE_CLASSIC]	= "classic",
	[MODE_NONE]	= "none",
};

/* ---- records ------------------------------------------------------------ */

struct text {			/* a string that grows */
	char *data;
	size_t length, room;
};

struct action {
	enum action_kind kind;
	long long argument;
};

struct rule {			/* --on EVENT[:N]=ACTION */
	struct rule *next;
	enum event event;
	unsigned long nth;	/* 0: every one */
	struct action action;
};

struct image {			/* --image NAME=FILE */
	struct image *next;
	const char *name;
	const char *path;
	int fd;
	long long size;
};

struct keys {			/* whose file it is: cookie keys are binary */
	char volume[CACHEFILES_MSG_MAX_SIZE];
	char cookie[CACHEFILES_MSG_MAX_SIZE];
	size_t volume_length, cookie_length;
};

struct object {			/* an anonymous fd that is open */
	struct object *next;
	uint32_t id;
	int fd;
	struct keys keys;
	const struct image *image;
	bool filled;
};

struct request {		/* a message of the kernel */
	struct request *next;
	enum event event;
	unsigned long nth;
	uint32_t msg_id, object_id;
	int fd;			/* OPEN only, else -1 */
	uint64_t offset, length;
	struct keys keys;
	const struct image *image;
	struct action action;
	double due;		/* of a late request; 0 when held */
};

enum watch_kind {
	WATCH_DEVICE,
	WATCH_SIGNAL,
	WATCH_LISTENER,
	WATCH_CLIENT,
};

struct watch {			/* what an epoll event refers to */
	enum watch_kind kind;
	int fd;
};

struct client {
	struct watch watch;
	struct client *next;
	size_t length;
	char line[COMMAND_MAX];
};

struct daemon {
	/* as asked for */
	const char *device_path;
	const char *directory;
	const char *tag;
	const char *log_path;
	const char *control_path;
	const char *pid_path;
	struct text limits;	/* commands, NUL-terminated, one after the other */
	enum mode mode;
	struct rule *rules;
	struct image *images;
	bool background;
	double wait_device;	/* seconds */

	/* as it is now */
	struct watch device, signals, listener;
	int epoll;
	int log;
	struct client *clients;
	struct object *objects;
	struct request *pending;
	unsigned long counts[EVENT_COUNT];
	unsigned long ignored, empty_reads, same_read_errors;
	int last_read_error;	/* 0: there was nothing; -1: there was something */
	bool bound, ondemand, stopped, watched, quit;
	double paused_until;
	char *buffer;		/* for O_DIRECT, CHUNK bytes */
};

/* ---- small helpers ------------------------------------------------------ */

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static __attribute__((noreturn, format(printf, 1, 2))) void usage_error(const char *format, ...)
{
	va_list args;

	fputs(PROGRAM ": ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs("\nTry '" PROGRAM " --help'.\n", stderr);
	exit(EXIT_USAGE);
}

static void *allocate(size_t size)
{
	void *memory = calloc(1, size);

	if (!memory) {
		fputs(PROGRAM ": out of memory\n", stderr);
		exit(EXIT_FAILURE);
	}
	return memory;
}

static void text_room(struct text *text, size_t more)
{
	size_t room = text->room ? text->room : 256;

	while (room < text->length + more + 1)
		room *= 2;
	if (room == text->room)
		return;
	text->data = realloc(text->data, room);
	if (!text->data) {
		fputs(PROGRAM ": out of memory\n", stderr);
		exit(EXIT_FAILURE);
	}
	text->room = room;
}

static void text_append(struct text *text, const char *data, size_t length)
{
	text_room(text, length);
	memcpy(text->data + text->length, data, length);
	text->length += length;
	text->data[text->length] = '\0';
}

static __attribute__((format(printf, 2, 3))) void text_printf(struct text *text,
							      const char *format, ...)
{
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (length < 0)
		return;
	text_room(text, (size_t)length);
	va_start(args, format);
	vsnprintf(text->data + text->length, (size_t)length + 1, format, args);
	va_end(args);
	text->length += (size_t)length;
}

static void text_free(struct text *text)
{
	free(text->data);
	memset(text, 0, sizeof(*text));
}

static char *absolute_path(const char *path)
{
	struct text text = {};
	char *here;

	if (path[0] != '/') {
		here = getcwd(NULL, 0);
		if (here)
			text_printf(&text, "%s/", here);
		free(here);
	}
	text_printf(&text, "%s", path);
	return text.data;
}

static const char *errno_name(int error)
{
	const char *name = strerrorname_np(error);

	return name ? name : "?";
}

static bool parse_number(const char *word, long long *value)
{
	char *end;

	errno = 0;
	*value = strtoll(word, &end, 0);
	return !errno && end != word && !*end;
}

static bool parse_seconds(const char *word, double *value)
{
	char *end;

	errno = 0;
	*value = strtod(word, &end);
	return !errno && end != word && !*end && *value >= 0 && *value < 1e9;
}

static bool parse_errno(const char *word, long long *value)
{
	if (parse_number(word, value))
		return *value > 0 && *value <= 4095;
	for (int error = 1; error < 4096; error++) {
		const char *name = strerrorname_np(error);

		if (name && !strcmp(name, word)) {
			*value = error;
			return true;
		}
	}
	return false;
}

/* ---- JSON --------------------------------------------------------------- */

static void json_string(struct text *text, const char *data, size_t length)
{
	text_append(text, "\"", 1);
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)data[i];

		if (c == '"' || c == '\\')
			text_printf(text, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			text_printf(text, "\\u%04x", c);
		else
			text_append(text, &data[i], 1);
	}
	text_append(text, "\"", 1);
}

/* Members are written with a comma in front: an object always opens with a fixed one. */
static void json_member(struct text *text, const char *key, const char *data, size_t length)
{
	text_printf(text, ",\"%s\":", key);
	json_string(text, data, length);
}

static void json_word(struct text *text, const char *key, const char *word)
{
	json_member(text, key, word, strlen(word));
}

static void json_number(struct text *text, const char *key, long long value)
{
	text_printf(text, ",\"%s\":%lld", key, value);
}

static void json_seconds(struct text *text, const char *key, double value)
{
	text_printf(text, ",\"%s\":%.6f", key, value);
}

static void json_bool(struct text *text, const char *key, bool value)
{
	text_printf(text, ",\"%s\":%s", key, value ? "true" : "false");
}

static void json_errno(struct text *text, int error)
{
	json_number(text, "errno", error);
	if (error)
		json_word(text, "error", errno_name(error));
}

static void json_keys(struct text *text, const struct keys *keys)
{
	json_member(text, "volume", keys->volume, keys->volume_length);
	json_member(text, "cookie", keys->cookie, keys->cookie_length);
}

/* ---- the log ------------------------------------------------------------ */

static void log_start(struct text *line, const char *event)
{
	memset(line, 0, sizeof(*line));
	text_printf(line, "{\"t\":%.6f", now());
	json_word(line, "event", event);
}

static bool write_all(int fd, const char *data, size_t length)
{
	while (length) {
		ssize_t n = write(fd, data, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		data += n;
		length -= (size_t)n;
	}
	return true;
}

/* A line goes out with one write(2): nothing is left in a buffer if we die. */
static void log_end(struct daemon *d, struct text *line)
{
	text_append(line, "}\n", 2);
	if (d->log >= 0 && !write_all(d->log, line->data, line->length)) {
		fprintf(stderr, PROGRAM ": cannot write log %s: %m; no log from here on\n",
			d->log_path ? d->log_path : "on standard output");
		d->log = -1;
	}
	text_free(line);
}

static void log_error(struct daemon *d, const char *step, const char *path, int error)
{
	struct text line;

	log_start(&line, "error");
	json_word(&line, "step", step);
	if (path)
		json_word(&line, "path", path);
	json_errno(&line, error);
	log_end(d, &line);
}

static void json_action(struct text *line, const struct action *action)
{
	const struct action_word *word = &action_words[action->kind];
	struct text value = {};

	text_printf(&value, "%s", word->name);
	if (word->argument == ARGUMENT_ERRNO)
		text_printf(&value, ":%s", errno_name((int)action->argument));
	else if (word->argument == ARGUMENT_NUMBER)
		text_printf(&value, ":%lld", action->argument);
	json_word(line, "action", value.data);
	text_free(&value);
}

static void json_request(struct text *line, const struct request *request)
{
	json_number(line, "n", (long long)request->nth);
	json_number(line, "msg_id", request->msg_id);
	json_number(line, "object_id", request->object_id);
	json_keys(line, &request->keys);
	if (request->event == EVENT_OPEN)
		json_number(line, "fd", request->fd);
	if (request->event == EVENT_READ) {
		text_printf(line, ",\"off\":%" PRIu64, request->offset);
		text_printf(line, ",\"len\":%" PRIu64, request->length);
	}
	json_action(line, &request->action);
}

static void reply_start(struct text *line, const struct request *request)
{
	log_start(line, "reply");
	json_word(line, "to", event_names[request->event]);
	json_request(line, request);
}

/* ---- the device and its anonymous fds ----------------------------------- */

static struct object *find_object(struct daemon *d, uint32_t id)
{
	for (struct object *object = d->objects; object; object = object->next)
		if (object->id == id)
			return object;
	return NULL;
}

static void note_unbound(struct daemon *d)
{
	struct text line;

	if (!d->bound || d->device.fd >= 0 || d->objects)
		return;
	d->bound = false;
	log_start(&line, "unbound");
	log_end(d, &line);
}

/* close(2) may block in the kernel for long: how long is part of the log. */
static int close_timed(int fd, double *seconds)
{
	double start = now();
	int error = close(fd) ? errno : 0;

	*seconds = now() - start;
	return error;
}

static int close_object(struct daemon *d, struct object *object)
{
	struct object **link = &d->objects;
	struct text line;
	double seconds;
	int error;

	while (*link != object)
		link = &(*link)->next;
	*link = object->next;

	error = close_timed(object->fd, &seconds);
	log_start(&line, "fd-closed");
	json_number(&line, "object_id", object->id);
	json_keys(&line, &object->keys);
	json_number(&line, "fd", object->fd);
	json_errno(&line, error);
	json_seconds(&line, "seconds", seconds);
	log_end(d, &line);
	free(object);
	note_unbound(d);
	return error;
}

/* Closes every fd with that id; -1 when there is none. */
static int close_objects(struct daemon *d, uint32_t id)
{
	struct object *object;
	int result = -1;

	while ((object = find_object(d, id)))
		result = close_object(d, object);
	return result;
}

/* epoll reports the device level-triggered; it is watched only while it is to be read. */
static void watch_device(struct daemon *d)
{
	bool wanted = d->device.fd >= 0 && d->bound && d->ondemand && !d->stopped &&
		      !d->paused_until;
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = &d->device };

	if (wanted == d->watched)
		return;
	if (epoll_ctl(d->epoll, wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, d->device.fd, &event))
		log_error(d, "watch", d->device_path, errno);
	d->watched = wanted;
}

static int close_device(struct daemon *d)
{
	struct text line;
	double seconds;
	int error, fd = d->device.fd;

	if (fd < 0)
		return EBADF;
	if (d->watched)
		epoll_ctl(d->epoll, EPOLL_CTL_DEL, fd, NULL);
	d->watched = false;
	d->device.fd = -1;
	error = close_timed(fd, &seconds);
	log_start(&line, "device-closed");
	json_number(&line, "fd", fd);
	json_errno(&line, error);
	json_seconds(&line, "seconds", seconds);
	log_end(d, &line);
	note_unbound(d);
	return error;
}

/* One command is one write(2). Returns 0 or an errno. */
static int device_command(struct daemon *d, const char *command, size_t length)
{
	ssize_t n;

	if (d->device.fd < 0)
		return EBADF;
	do {
		n = write(d->device.fd, command, length);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno;
	return (size_t)n == length ? 0 : EIO;
}

/* "bind" also changes what we are. */
static int bind_command(struct daemon *d, const char *command, size_t length)
{
	int error = device_command(d, command, length);
	struct text line;

	if (error)
		return error;
	d->bound = true;
	d->ondemand = memmem(command, length, "ondemand", strlen("ondemand")) != NULL;
	log_start(&line, "bound");
	json_word(&line, "mode", d->ondemand ? "ondemand" : "classic");
	if (d->directory)
		json_word(&line, "dir", d->directory);
	json_word(&line, "tag", d->tag ? d->tag : "CacheFiles");
	json_number(&line, "pid", getpid());
	json_errno(&line, 0);
	log_end(d, &line);
	return 0;
}

/* ---- answers ------------------------------------------------------------ */

static void answer_open(struct daemon *d, struct request *request)
{
	struct object *object;
	struct text line;
	char command[64];
	long long size;
	int error, length;

	if (request->action.kind == ACTION_ERROR)
		size = -request->action.argument;
	else if (request->action.kind == ACTION_SIZE)
		size = request->action.argument;
	else
		size = request->image ? request->image->size : -ENOENT;

	if (request->action.kind == ACTION_CLOSE_FD_FIRST)
		close_objects(d, request->object_id);

	length = snprintf(command, sizeof(command), "copen %u,%lld", request->msg_id, size);
	error = device_command(d, command, (size_t)length);

	reply_start(&line, request);
	json_number(&line, "size", size);
	json_errno(&line, error);
	log_end(d, &line);

	/* No CLOSE will come for an open that failed. */
	object = find_object(d, request->object_id);
	if (object && (size < 0 || error || request->action.kind == ACTION_CLOSE_FD))
		close_object(d, object);
}

static int fill_from_image(char *buffer, size_t length, const struct image *image, uint64_t offset)
{
	memset(buffer, 0, length);
	while (image && length && offset < (uint64_t)image->size) {
		ssize_t n = pread(image->fd, buffer, length, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		if (!n)
			break;
		buffer += n;
		offset += (uint64_t)n;
		length -= (size_t)n;
	}
	return 0;
}

static int fill(struct daemon *d, const struct request *request, size_t length, uint64_t offset)
{
	if (request->action.kind == ACTION_ZEROS)
		memset(d->buffer, 0, length);
	else if (request->action.kind == ACTION_GARBAGE)
		memset(d->buffer, 0xa5, length);
	else
		return fill_from_image(d->buffer, length, request->image, offset);
	return 0;
}

/*
 * Fills the pages that the request touches, or all of the image; whole pages,
 * for the file is O_DIRECT. All of it once only: in a row each write(2) begins
 * where the last one ended, and the fd's position cannot be set back.
 */
static int write_data(struct daemon *d, const struct request *request, struct object *object,
		      uint64_t *written)
{
	bool all = request->action.kind == ACTION_FILL && object->image && !object->filled;
	uint64_t offset = all ? 0 : request->offset / BLOCK * BLOCK;
	uint64_t end = all ? (uint64_t)object->image->size : request->offset + request->length;
	size_t chunk = all ? FILL_CHUNK : CHUNK;

	object->filled |= all;
	end = (end + BLOCK - 1) / BLOCK * BLOCK;
	while (offset < end) {
		size_t length = end - offset < chunk ? (size_t)(end - offset) : chunk;
		int error = fill(d, request, length, offset);
		ssize_t n;

		if (error)
			return error;
		do {
			n = all ? write(object->fd, d->buffer, length) :
				  pwrite(object->fd, d->buffer, length, (off_t)offset);
		} while (n < 0 && errno == EINTR);
		if (n < 0)
			return errno;
		if (!n || n % (ssize_t)BLOCK)
			return EIO;
		offset += (uint64_t)n;
		*written += (uint64_t)n;
	}
	return 0;
}

static void answer_read(struct daemon *d, struct request *request)
{
	int error = EBADF, write_error = EBADF;
	struct object *object;
	uint64_t written = 0;
	struct text line;

	if (request->action.kind == ACTION_CLOSE_FD_FIRST)
		close_objects(d, request->object_id);

	object = find_object(d, request->object_id);
	if (object) {
		request->image = object->image;
		write_error = request->action.kind == ACTION_ERROR ? 0 :
			      write_data(d, request, object, &written);
		error = ioctl(object->fd, CACHEFILES_IOC_READ_COMPLETE, request->msg_id) ? errno : 0;
	}

	reply_start(&line, request);
	json_number(&line, "written", (long long)written);
	json_number(&line, "write_errno", write_error);
	json_errno(&line, error);
	log_end(d, &line);

	if (object && request->action.kind == ACTION_CLOSE_FD)
		close_object(d, object);
}

/* A CLOSE wants no reply: the fd is what has to go. */
static void answer_close(struct daemon *d, struct request *request)
{
	int error = close_objects(d, request->object_id);
	struct text line;

	reply_start(&line, request);
	json_errno(&line, error < 0 ? EBADF : error);
	log_end(d, &line);
}

static void answer(struct daemon *d, struct request *request)
{
	switch (request->event) {
	case EVENT_OPEN:
		answer_open(d, request);
		break;
	case EVENT_READ:
		answer_read(d, request);
		break;
	default:
		answer_close(d, request);
	}
}

static void keep(struct daemon *d, struct request *request)
{
	struct request **link = &d->pending;

	while (*link)
		link = &(*link)->next;
	*link = request;
}

static void stop(struct daemon *d)
{
	struct text line;

	d->stopped = true;
	log_start(&line, "stopped");
	log_end(d, &line);
}

static void log_exit(struct daemon *d, const char *why)
{
	struct text line;

	log_start(&line, "exit");
	json_word(&line, "why", why);
	log_end(d, &line);
}

/* Does what the rule says. The request is ours to keep or to free. */
static void act(struct daemon *d, struct request *request)
{
	switch (request->action.kind) {
	case ACTION_LATE:
		request->due = now() + (double)request->action.argument / 1000;
		keep(d, request);
		return;
	case ACTION_HOLD:
		keep(d, request);
		return;
	case ACTION_IGNORE:
		d->ignored++;
		break;
	case ACTION_EXIT:
		log_exit(d, "action exit");
		_exit(EXIT_SUCCESS);
	case ACTION_KILL:
		log_exit(d, "action kill");
		kill(getpid(), SIGKILL);
		break;
	case ACTION_CLOSE_DEVICE:
		close_device(d);
		break;
	case ACTION_STOP:
		answer(d, request);
		stop(d);
		break;
	default:
		answer(d, request);
	}
	free(request);
}

/* ---- messages of the kernel --------------------------------------------- */

static bool parse_open(const struct cachefiles_msg *message, size_t room, struct request *request)
{
	const struct cachefiles_open *open = (const void *)message->data;
	const char *data = (const char *)open->data;

	if (room < sizeof(*open))
		return false;
	room -= sizeof(*open);
	if (open->volume_key_size > room || open->cookie_key_size > room - open->volume_key_size ||
	    open->volume_key_size > sizeof(request->keys.volume) ||
	    open->cookie_key_size > sizeof(request->keys.cookie))
		return false;
	request->fd = (int)open->fd;
	/* The size of the volume key includes its NUL. */
	request->keys.volume_length = strnlen(data, open->volume_key_size);
	memcpy(request->keys.volume, data, request->keys.volume_length);
	request->keys.cookie_length = open->cookie_key_size;
	memcpy(request->keys.cookie, data + open->volume_key_size, open->cookie_key_size);
	return true;
}

static bool parse_read(const struct cachefiles_msg *message, size_t room, struct request *request)
{
	const struct cachefiles_read *read = (const void *)message->data;

	if (room < sizeof(*read))
		return false;
	request->offset = read->off;
	request->length = read->len;
	return true;
}

static bool parse_message(const struct cachefiles_msg *message, size_t length,
			  struct request *request)
{
	if (length < sizeof(*message) || message->len != length)
		return false;
	request->msg_id = message->msg_id;
	request->object_id = message->object_id;
	request->fd = -1;
	length -= sizeof(*message);
	switch (message->opcode) {
	case CACHEFILES_OP_OPEN:
		request->event = EVENT_OPEN;
		return parse_open(message, length, request);
	case CACHEFILES_OP_READ:
		request->event = EVENT_READ;
		return parse_read(message, length, request);
	case CACHEFILES_OP_CLOSE:
		request->event = EVENT_CLOSE;
		return true;
	default:
		return false;
	}
}

static const struct image *find_image(const struct daemon *d, const struct keys *keys)
{
	for (const struct image *image = d->images; image; image = image->next)
		if (strlen(image->name) == keys->cookie_length &&
		    !memcmp(image->name, keys->cookie, keys->cookie_length))
			return image;
	return NULL;
}

static void add_object(struct daemon *d, struct request *request)
{
	struct object *object = allocate(sizeof(*object));

	request->image = find_image(d, &request->keys);
	object->id = request->object_id;
	object->fd = request->fd;
	object->keys = request->keys;
	object->image = request->image;
	object->next = d->objects;
	d->objects = object;
}

static struct action choose_action(const struct daemon *d, const struct request *request)
{
	for (const struct rule *rule = d->rules; rule; rule = rule->next) {
		if (rule->event != EVENT_ANY && rule->event != request->event)
			continue;
		if (rule->nth && rule->nth != d->counts[rule->event])
			continue;
		return rule->action;
	}
	return (struct action){ .kind = ACTION_ANSWER };
}

static void handle_message(struct daemon *d, const struct cachefiles_msg *message, size_t length)
{
	struct request *request = allocate(sizeof(*request));
	struct object *object;
	struct text line;

	if (!parse_message(message, length, request)) {
		log_error(d, "parse message", d->device_path, EPROTO);
		free(request);
		return;
	}
	request->nth = ++d->counts[request->event];
	d->counts[EVENT_ANY]++;
	request->action = choose_action(d, request);

	if (request->event == EVENT_OPEN) {
		add_object(d, request);
	} else {
		object = find_object(d, request->object_id);
		if (object)
			request->keys = object->keys;
	}

	log_start(&line, event_names[request->event]);
	json_request(&line, request);
	json_errno(&line, 0);
	log_end(d, &line);
	act(d, request);
}

/*
 * The device may say that it is readable and yet give nothing (the kernel does
 * that on purpose when it reopens an object): pause then, rather than spin.
 */
static void pause_reading(struct daemon *d, int error)
{
	struct text line;

	d->paused_until = now() + EMPTY_READ_PAUSE;
	d->empty_reads++;
	d->same_read_errors = error == d->last_read_error ? d->same_read_errors + 1 : 1;
	d->last_read_error = error;
	if (d->same_read_errors != 1 && (error || d->same_read_errors != MANY_EMPTY_READS))
		return;
	if (error) {
		log_error(d, "read", d->device_path, error);
	} else {
		log_start(&line, "empty-read");
		json_number(&line, "in_a_row", (long long)d->same_read_errors);
		log_end(d, &line);
	}
}

/* Returns the length of the message, 0 if there was none, or a negative errno. */
static ssize_t read_device(struct daemon *d)
{
	char buffer[2 * CACHEFILES_MSG_MAX_SIZE]
		__attribute__((aligned(__alignof__(struct cachefiles_msg))));
	ssize_t n;

	do {
		n = read(d->device.fd, buffer, sizeof(buffer));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		n = -errno;
	if (n <= 0) {
		pause_reading(d, (int)-n);
		return n;
	}
	d->last_read_error = -1;
	handle_message(d, (const struct cachefiles_msg *)buffer, (size_t)n);
	return n;
}

/* ---- the control socket: commands --------------------------------------- */

/* A command returns 0 or an errno, and adds members to the answer. */
struct command {
	const char *name;
	int (*run)(struct daemon *d, char *argument, struct text *more);
};

static bool parse_action(const char *text, enum event event, struct action *action,
			 const char **wrong);

/* "release [MSGID|all] [ACTION]" */
static int command_release(struct daemon *d, char *argument, struct text *more)
{
	char *which = strsep(&argument, " ");
	bool all = !*which || !strcmp(which, "all");
	struct request *request, **link = &d->pending;
	struct action action = { .kind = ACTION_ANSWER };
	long long id = 0, released = 0;
	const char *wrong;

	if (!all && !parse_number(which, &id))
		return EINVAL;
	while ((request = *link)) {
		if (!all && request->msg_id != id) {
			link = &request->next;
			continue;
		}
		if (argument && !parse_action(argument, request->event, &action, &wrong)) {
			json_word(more, "hint", wrong);
			return EINVAL;
		}
		if (action.kind == ACTION_HOLD || action.kind == ACTION_LATE)
			return EINVAL;
		*link = request->next;
		request->action = action;
		act(d, request);
		released++;
	}
	json_number(more, "released", released);
	return all || released ? 0 : ENOENT;
}

static void status_lists(const struct daemon *d, struct text *more)
{
	const char *comma = "";

	text_printf(more, ",\"held\":[");
	for (const struct request *r = d->pending; r; r = r->next, comma = ",") {
		text_printf(more, "%s{\"event\":\"%s\"", comma, event_names[r->event]);
		json_request(more, r);
		text_printf(more, "}");
	}
	text_printf(more, "],\"objects\":[");
	comma = "";
	for (const struct object *o = d->objects; o; o = o->next, comma = ",") {
		text_printf(more, "%s{\"object_id\":%u", comma, o->id);
		json_number(more, "fd", o->fd);
		json_keys(more, &o->keys);
		text_printf(more, "}");
	}
	text_printf(more, "]");
}

static int command_status(struct daemon *d, char *argument, struct text *more)
{
	(void)argument;
	json_number(more, "pid", getpid());
	json_word(more, "mode", !d->bound ? "none" : d->ondemand ? "ondemand" : "classic");
	json_bool(more, "bound", d->bound);
	json_bool(more, "device_open", d->device.fd >= 0);
	json_bool(more, "stopped", d->stopped);
	json_number(more, "opens", (long long)d->counts[EVENT_OPEN]);
	json_number(more, "reads", (long long)d->counts[EVENT_READ]);
	json_number(more, "closes", (long long)d->counts[EVENT_CLOSE]);
	json_number(more, "ignored", (long long)d->ignored);
	json_number(more, "empty_reads", (long long)d->empty_reads);
	status_lists(d, more);
	return 0;
}

static int command_close_fd(struct daemon *d, char *argument, struct text *more)
{
	long long id;
	int error = 0, result;

	(void)more;
	if (!strcmp(argument, "all")) {
		while (d->objects) {
			result = close_object(d, d->objects);
			if (result)
				error = result;
		}
		return error;
	}
	if (!parse_number(argument, &id))
		return EINVAL;
	error = close_objects(d, (uint32_t)id);
	return error < 0 ? ENOENT : error;
}

static int command_close_device(struct daemon *d, char *argument, struct text *more)
{
	(void)argument;
	(void)more;
	return close_device(d);
}

/* "cread OBJECT MSGID": completes a READ, perhaps one of another object. */
static int command_cread(struct daemon *d, char *argument, struct text *more)
{
	char *which = strsep(&argument, " ");
	struct object *object;
	long long id, msg_id;

	(void)more;
	if (!argument || !parse_number(which, &id) || !parse_number(argument, &msg_id))
		return EINVAL;
	object = find_object(d, (uint32_t)id);
	if (!object)
		return ENOENT;
	return ioctl(object->fd, CACHEFILES_IOC_READ_COMPLETE, msg_id) ? errno : 0;
}

/* cull and inuse name a file of the current directory: go there for the while. */
static int in_directory_of(struct daemon *d, const char *verb, char *path)
{
	char *name = strrchr(path, '/');
	struct text directory = {}, command = {};
	int error = 0;

	if (!*path)
		return EINVAL;
	if (path[0] != '/')
		text_printf(&directory, "%s/", d->directory ? d->directory : ".");
	if (name)
		text_printf(&directory, "%.*s/", (int)(name - path), path);
	text_printf(&command, "%s %s", verb, name ? name + 1 : path);

	if (chdir(directory.data))
		error = errno;
	if (!error)
		error = device_command(d, command.data, command.length);
	if (chdir("/"))
		log_error(d, "chdir", "/", errno);
	text_free(&directory);
	text_free(&command);
	return error;
}

static int command_cull(struct daemon *d, char *argument, struct text *more)
{
	(void)more;
	return in_directory_of(d, "cull", argument);
}

static int command_inuse(struct daemon *d, char *argument, struct text *more)
{
	(void)more;
	return in_directory_of(d, "inuse", argument);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* \n, \0, \\ and \xHH, in place; returns the length. */
static size_t unescape(char *text)
{
	const char *in = text;
	char *out = text;

	while (*in) {
		if (*in != '\\' || !in[1]) {
			*out++ = *in++;
			continue;
		}
		in++;
		if (*in == 'x' && hex_digit(in[1]) >= 0 && hex_digit(in[2]) >= 0) {
			*out++ = (char)(hex_digit(in[1]) * 16 + hex_digit(in[2]));
			in += 3;
			continue;
		}
		*out++ = *in == 'n' ? '\n' : *in == '0' ? '\0' : *in;
		in++;
	}
	return (size_t)(out - text);
}

static int command_command(struct daemon *d, char *argument, struct text *more)
{
	size_t length = unescape(argument);
	int error;

	(void)more;
	if (!strncmp(argument, "bind", 4))
		return bind_command(d, argument, length);
	error = device_command(d, argument, length);
	if (!error && !strncmp(argument, "dir ", 4))
		d->directory = strndup(argument + 4, strcspn(argument + 4, "\n"));
	return error;
}

/* "poll [SECONDS]": while it waits, nothing else is done. */
static int command_poll(struct daemon *d, char *argument, struct text *more)
{
	static const struct { short bit; const char *name; } bits[] = {
		{ POLLIN, "POLLIN" }, { POLLOUT, "POLLOUT" }, { POLLPRI, "POLLPRI" },
		{ POLLERR, "POLLERR" }, { POLLHUP, "POLLHUP" }, { POLLNVAL, "POLLNVAL" },
	};
	struct pollfd poll_fd = { .fd = d->device.fd, .events = POLLIN | POLLOUT | POLLPRI };
	const char *comma = "";
	double seconds = 0;

	if (*argument && (!parse_seconds(argument, &seconds) || seconds > INT_MAX / 1000))
		return EINVAL;
	if (d->device.fd < 0)
		return EBADF;
	if (poll(&poll_fd, 1, (int)(seconds * 1000)) < 0)
		return errno;
	json_number(more, "revents", poll_fd.revents);
	text_printf(more, ",\"names\":[");
	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
		if (!(poll_fd.revents & bits[i].bit))
			continue;
		text_printf(more, "%s\"%s\"", comma, bits[i].name);
		comma = ",";
	}
	text_printf(more, "]");
	return 0;
}

static int command_read_state(struct daemon *d, char *argument, struct text *more)
{
	char state[512];
	ssize_t n;

	(void)argument;
	if (d->device.fd < 0)
		return EBADF;
	if (d->ondemand)	/* would take a request off the queue */
		return EOPNOTSUPP;
	n = read(d->device.fd, state, sizeof(state));
	if (n < 0)
		return errno;
	json_member(more, "state", state, (size_t)n);
	return 0;
}

static int command_stop(struct daemon *d, char *argument, struct text *more)
{
	(void)argument;
	(void)more;
	stop(d);
	return 0;
}

static int command_resume(struct daemon *d, char *argument, struct text *more)
{
	struct text line;

	(void)argument;
	(void)more;
	d->stopped = false;
	log_start(&line, "resumed");
	log_end(d, &line);
	return 0;
}

/* "take": one read(2) of the device, also when stopped. */
static int command_take(struct daemon *d, char *argument, struct text *more)
{
	ssize_t n;

	(void)argument;
	if (d->device.fd < 0)
		return EBADF;
	if (!d->ondemand)	/* no messages, but a text: read-state */
		return EOPNOTSUPP;
	n = read_device(d);
	if (n < 0)
		return (int)-n;
	json_number(more, "length", n);
	return 0;
}

/* The device first, then the fds: as the kernel does it for a process that dies. */
static void shut_down(struct daemon *d, const char *why)
{
	if (d->device.fd >= 0)
		close_device(d);
	while (d->objects)
		close_object(d, d->objects);
	if (d->control_path)
		unlink(d->control_path);
	if (d->pid_path)
		unlink(d->pid_path);
	log_exit(d, why);
	d->quit = true;
}

static int command_exit(struct daemon *d, char *argument, struct text *more)
{
	(void)argument;
	(void)more;
	shut_down(d, "command exit");
	return 0;
}

static const struct command commands[] = {
	{ "release",	  command_release },
	{ "status",	  command_status },
	{ "close-fd",	  command_close_fd },
	{ "close-device", command_close_device },
	{ "cread",	  command_cread },
	{ "cull",	  command_cull },
	{ "inuse",	  command_inuse },
	{ "command",	  command_command },
	{ "poll",	  command_poll },
	{ "read-state",	  command_read_state },
	{ "take",	  command_take },
	{ "stop",	  command_stop },
	{ "resume",	  command_resume },
	{ "exit",	  command_exit },
};

static int run_command(struct daemon *d, char *line, struct text *more)
{
	char *argument = line;
	char *name = strsep(&argument, " ");

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, name))
			return commands[i].run(d, argument ? argument : line + strlen(line), more);
	json_word(more, "hint", "commands: release [MSGID|all] [ACTION], status, "
		  "close-fd OBJECT|all, close-device, cread OBJECT MSGID, cull PATH, inuse PATH, "
		  "command TEXT, poll [SECONDS], read-state, take, stop, resume, exit");
	return ENOSYS;
}

/* ---- the control socket: clients ---------------------------------------- */

static void log_command(struct daemon *d, const char *command, int error)
{
	struct text line;

	log_start(&line, "control");
	json_word(&line, "command", command);
	json_errno(&line, error);
	log_end(d, &line);
}

static bool answer_line(struct daemon *d, struct client *client, char *command)
{
	struct text reply = {}, more = {};
	char *kept = strdup(command);	/* run_command() takes its argument apart */
	bool sent;
	int error;

	error = run_command(d, command, &more);
	log_command(d, kept ? kept : "", error);
	free(kept);
	text_printf(&reply, "{\"ok\":%s", error ? "false" : "true");
	json_errno(&reply, error);
	if (more.length)
		text_append(&reply, more.data, more.length);
	text_append(&reply, "}\n", 2);
	sent = write_all(client->watch.fd, reply.data, reply.length);
	text_free(&reply);
	text_free(&more);
	return sent;
}

static void drop_client(struct daemon *d, struct client *client)
{
	struct client **link = &d->clients;

	while (*link != client)
		link = &(*link)->next;
	*link = client->next;
	close(client->watch.fd);
	free(client);
}

static void serve_client(struct daemon *d, struct client *client)
{
	ssize_t n = recv(client->watch.fd, client->line + client->length,
			 sizeof(client->line) - client->length, MSG_DONTWAIT);
	char *end;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0)
		goto drop;
	client->length += (size_t)n;
	while ((end = memchr(client->line, '\n', client->length))) {
		size_t used = (size_t)(end - client->line) + 1;

		*end = '\0';
		if (!answer_line(d, client, client->line))
			goto drop;
		client->length -= used;
		memmove(client->line, client->line + used, client->length);
	}
	if (client->length < sizeof(client->line))
		return;
	log_error(d, "control: line too long", d->control_path, EMSGSIZE);
drop:
	drop_client(d, client);
}

static void accept_client(struct daemon *d)
{
	struct timeval timeout = { .tv_sec = ANSWER_SECONDS };
	struct epoll_event event = { .events = EPOLLIN };
	struct client *client;
	int fd = accept4(d->listener.fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0) {
		log_error(d, "accept", d->control_path, errno);
		return;
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	client = allocate(sizeof(*client));
	client->watch = (struct watch){ .kind = WATCH_CLIENT, .fd = fd };
	client->next = d->clients;
	d->clients = client;
	event.data.ptr = &client->watch;
	if (epoll_ctl(d->epoll, EPOLL_CTL_ADD, fd, &event)) {
		log_error(d, "watch", d->control_path, errno);
		drop_client(d, client);
	}
}

/* ---- the loop ----------------------------------------------------------- */

static void take_signal(struct daemon *d)
{
	struct signalfd_siginfo info;
	char why[32];

	if (read(d->signals.fd, &info, sizeof(info)) != sizeof(info))
		return;
	snprintf(why, sizeof(why), "signal %u", info.ssi_signo);
	shut_down(d, why);
}

static void answer_due(struct daemon *d)
{
	struct request *request, **link = &d->pending;
	double time = now();

	if (d->paused_until && d->paused_until <= time)
		d->paused_until = 0;
	while ((request = *link)) {
		if (!request->due || request->due > time) {
			link = &request->next;
			continue;
		}
		*link = request->next;
		answer(d, request);
		free(request);
	}
}

static int milliseconds_to_wait(const struct daemon *d)
{
	double next = d->paused_until;

	for (const struct request *request = d->pending; request; request = request->next)
		if (request->due && (!next || request->due < next))
			next = request->due;
	if (!next)
		return -1;
	next = (next - now()) * 1000;
	return next <= 0 ? 0 : next > INT_MAX - 1 ? INT_MAX : (int)next + 1;
}

static void dispatch(struct daemon *d, struct watch *watch)
{
	switch (watch->kind) {
	case WATCH_DEVICE:
		if (d->watched && !d->stopped)
			read_device(d);
		break;
	case WATCH_SIGNAL:
		take_signal(d);
		break;
	case WATCH_LISTENER:
		accept_client(d);
		break;
	case WATCH_CLIENT:
		serve_client(d, (struct client *)watch);
		break;
	}
}

/* One event a turn: what it does may change which others are wanted. */
static void loop(struct daemon *d)
{
	struct epoll_event event;

	while (!d->quit) {
		int n;

		watch_device(d);
		n = epoll_wait(d->epoll, &event, 1, milliseconds_to_wait(d));
		if (n < 0 && errno != EINTR) {
			log_error(d, "epoll_wait", NULL, errno);
			exit(EXIT_FAILURE);
		}
		answer_due(d);
		if (n > 0)
			dispatch(d, event.data.ptr);
	}
}

/* ---- starting ----------------------------------------------------------- */

static __attribute__((noreturn)) void start_failed(struct daemon *d, const char *step,
						   const char *path)
{
	int error = errno;

	log_error(d, step, path, error);
	fprintf(stderr, PROGRAM ": cannot %s %s: %s (%s, errno %d)\n", step, path,
		strerror(error), errno_name(error), error);
	if (d->listener.fd >= 0)
		unlink(d->control_path);
	exit(EXIT_FAILURE);
}

static void add_watch(struct daemon *d, struct watch *watch)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = watch };

	if (epoll_ctl(d->epoll, EPOLL_CTL_ADD, watch->fd, &event))
		start_failed(d, "watch", "a file descriptor with epoll");
}

static void open_log(struct daemon *d)
{
	if (!d->log_path) {
		d->log = d->background ? -1 : STDOUT_FILENO;
		return;
	}
	d->log = open(d->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (d->log < 0)
		start_failed(d, "open log", d->log_path);
}

static void open_images(struct daemon *d)
{
	for (struct image *image = d->images; image; image = image->next) {
		struct stat status;

		image->fd = open(image->path, O_RDONLY | O_CLOEXEC);
		if (image->fd < 0 || fstat(image->fd, &status))
			start_failed(d, "open image", image->path);
		image->size = status.st_size;
	}
}

static void make_address(const char *path, struct sockaddr_un *address)
{
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(address->sun_path))
		usage_error("%s is too long for a unix socket (%zu bytes at most)", path,
			    sizeof(address->sun_path) - 1);
	strcpy(address->sun_path, path);
}

static void open_control(struct daemon *d)
{
	struct sockaddr_un address;

	if (!d->control_path)
		return;
	make_address(d->control_path, &address);
	unlink(d->control_path);
	d->listener.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (d->listener.fd < 0 ||
	    bind(d->listener.fd, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(d->listener.fd, 8))
		start_failed(d, "listen on control socket", d->control_path);
	add_watch(d, &d->listener);
}

static void open_signals(struct daemon *d)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	d->signals.fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (d->signals.fd < 0)
		start_failed(d, "watch", "signals");
	add_watch(d, &d->signals);
}

static void must_command(struct daemon *d, const char *command)
{
	struct text step = {};
	int error;

	error = !strncmp(command, "bind", 4) ? bind_command(d, command, strlen(command)) :
					       device_command(d, command, strlen(command));
	if (!error)
		return;
	text_printf(&step, "write '%s' to", command);
	errno = error;
	start_failed(d, step.data, d->device_path);
}

/*
 * Opened before all else, so that its number is below those of the anonymous
 * fds: a process that dies closes its files in the order of their numbers.
 */
static void open_device(struct daemon *d)
{
	double deadline = now() + d->wait_device;
	int error;

	for (;;) {
		d->device.fd = open(d->device_path, O_RDWR | O_CLOEXEC);
		if (d->device.fd >= 0)
			return;
		error = errno;
		if (error != EINTR && (error != EBUSY || now() >= deadline))
			break;
		usleep(DEVICE_RETRY_US);
	}
	open_log(d);	/* the failure belongs into it */
	errno = error;
	start_failed(d, "open", d->device_path);
}

static void set_up_cache(struct daemon *d)
{
	struct text command = {};

	if (d->directory) {
		text_printf(&command, "dir %s", d->directory);
		must_command(d, command.data);
		text_free(&command);
	}
	if (d->tag) {
		text_printf(&command, "tag %s", d->tag);
		must_command(d, command.data);
		text_free(&command);
	}
	for (size_t at = 0; at < d->limits.length; at += strlen(d->limits.data + at) + 1)
		must_command(d, d->limits.data + at);
	if (d->mode == MODE_ONDEMAND)
		must_command(d, "bind ondemand");
	else if (d->mode == MODE_CLASSIC)
		must_command(d, "bind");
}

static void write_pid_file(struct daemon *d)
{
	FILE *file;

	if (!d->pid_path)
		return;
	file = fopen(d->pid_path, "we");
	if (!file || fprintf(file, "%d\n", getpid()) < 0 || fclose(file))
		start_failed(d, "write pid file", d->pid_path);
}

/* The parent waits for one byte that says "ready"; end of file says "failed, and told why". */
static int go_to_background(struct daemon *d)
{
	int ends[2], status;
	char byte;
	pid_t pid;
	ssize_t n;

	if (pipe2(ends, O_CLOEXEC))
		start_failed(d, "create", "a pipe");
	pid = fork();
	if (pid < 0)
		start_failed(d, "fork", "into the background");
	if (!pid) {
		close(ends[0]);
		setsid();
		return ends[1];
	}
	close(ends[1]);
	do {
		n = read(ends[0], &byte, 1);
	} while (n < 0 && errno == EINTR);
	if (n == 1)
		_exit(EXIT_SUCCESS);
	if (waitpid(pid, &status, 0) == pid && WIFSIGNALED(status))
		fprintf(stderr, PROGRAM ": died of signal %d while starting\n", WTERMSIG(status));
	_exit(EXIT_FAILURE);
}

/* A shell or an SSH session must not wait for our standard streams. */
static void report_ready(struct daemon *d, int ready)
{
	int null = open("/dev/null", O_RDWR);

	if (null < 0)
		start_failed(d, "open", "/dev/null");
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	if (null > STDERR_FILENO)
		close(null);
	if (write(ready, "r", 1) != 1)
		log_error(d, "report", "ready", errno);
	close(ready);
}

static void raise_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int run_daemon(struct daemon *d)
{
	int ready = -1;

	if (d->background)
		ready = go_to_background(d);
	open_device(d);
	open_log(d);
	open_images(d);
	raise_fd_limit();
	if (posix_memalign((void **)&d->buffer, BLOCK, CHUNK)) {
		errno = ENOMEM;
		start_failed(d, "allocate", "a buffer");
	}
	if (chdir("/"))
		start_failed(d, "change to", "/");
	d->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (d->epoll < 0)
		start_failed(d, "create", "an epoll file");
	open_signals(d);
	set_up_cache(d);	/* first: a device that is busy must cost nobody their socket */
	open_control(d);
	write_pid_file(d);
	if (d->background)
		report_ready(d, ready);
	loop(d);
	return EXIT_SUCCESS;
}

/* ---- --tell: the client ------------------------------------------------- */

static int wait_readable(int fd, double deadline)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	int n;

	do {
		double left = (deadline - now()) * 1000;

		n = poll(&poll_fd, 1, left <= 0 ? 0 : left >= INT_MAX - 1 ? -1 : (int)left + 1);
	} while (n < 0 && errno == EINTR);
	return n;
}

static int tell(const char *path, char **words, double seconds)
{
	double deadline = now() + seconds;
	struct sockaddr_un address;
	struct text line = {};
	char buffer[4096];
	ssize_t n;
	int fd;

	if (!*words)
		usage_error("--tell %s: which command? For example 'status'", path);
	for (char **word = words; *word; word++)
		text_printf(&line, "%s%s", word == words ? "" : " ", *word);
	if (strchr(line.data, '\n'))
		usage_error("--tell: a command is one line; write \\n for a newline in it");
	text_append(&line, "\n", 1);

	make_address(path, &address);
	signal(SIGPIPE, SIG_IGN);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		fprintf(stderr, PROGRAM ": cannot connect to %s: %m (is the daemon alive?)\n", path);
		return EXIT_FAILURE;
	}
	if (!write_all(fd, line.data, line.length)) {
		fprintf(stderr, PROGRAM ": cannot write to %s: %m\n", path);
		return EXIT_FAILURE;
	}
	line.length = 0;
	while (!line.length || line.data[line.length - 1] != '\n') {
		if (wait_readable(fd, deadline) <= 0) {
			fprintf(stderr, PROGRAM ": no answer from %s in %g s\n", path, seconds);
			return EXIT_TIMEOUT;
		}
		n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0) {
			fprintf(stderr, PROGRAM ": %s hung up without an answer\n", path);
			return EXIT_FAILURE;
		}
		text_append(&line, buffer, (size_t)n);
	}
	fputs(line.data, stdout);
	return strncmp(line.data, "{\"ok\":true", 10) ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- --await: waiting for a line of a log ------------------------------- */

struct waiting {
	const char *path;
	const char *event;
	size_t event_length;
	unsigned long wanted, seen;
	int fd;			/* of the log; -1 until it exists */
	struct text line;	/* as far as it is written yet */
};

static bool line_is_event(const struct waiting *w)
{
	static const char key[] = "\"event\":\"";
	const char *at = strstr(w->line.data, key);

	if (!at)
		return false;
	at += strlen(key);
	if (w->event_length == 3 && !memcmp(w->event, "any", 3))
		return !strncmp(at, "open\"", 5) || !strncmp(at, "read\"", 5) ||
		       !strncmp(at, "close\"", 6);
	return !strncmp(at, w->event, w->event_length) && at[w->event_length] == '"';
}

/* Reads what is new; true when the line that is waited for is complete in w->line. */
static bool scan_log(struct waiting *w)
{
	char c, buffer[4096];
	ssize_t n;

	if (w->fd < 0)
		w->fd = open(w->path, O_RDONLY | O_CLOEXEC);
	if (w->fd < 0)
		return false;
	while ((n = read(w->fd, buffer, sizeof(buffer))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			c = buffer[i];
			text_append(&w->line, &c, 1);
			if (c != '\n')
				continue;
			if (line_is_event(w) && ++w->seen == w->wanted)
				return true;
			w->line.length = 0;
		}
	}
	return false;
}

/* Watches the folder: the log may not exist yet, and its changes are reported there too. */
static int watch_folder(const char *path)
{
	char *copy = absolute_path(path);
	char *slash = strrchr(copy, '/');
	const char *folder = slash == copy ? "/" : copy;
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	*slash = '\0';
	if (fd < 0 || inotify_add_watch(fd, slash == copy ? "/" : folder,
					IN_CREATE | IN_MODIFY | IN_MOVED_TO) < 0) {
		fprintf(stderr, PROGRAM ": cannot watch the folder of %s: %m\n", path);
		exit(EXIT_FAILURE);
	}
	free(copy);
	return fd;
}

static int await(const char *path, const char *what, double seconds)
{
	struct waiting w = { .path = path, .event = what, .wanted = 1, .fd = -1 };
	const char *colon = strchrnul(what, ':');
	double deadline = now() + seconds;
	char events[4096];
	long long n;
	int watch;

	w.event_length = (size_t)(colon - what);
	if (*colon && (!parse_number(colon + 1, &n) || n < 1))
		usage_error("--await: '%s': N in EVENT:N counts from 1", what);
	else if (*colon)
		w.wanted = (unsigned long)n;
	if (!w.event_length)
		usage_error("--await: '%s' names no event", what);

	watch = watch_folder(path);
	while (!scan_log(&w)) {
		if (wait_readable(watch, deadline) <= 0) {
			fprintf(stderr, PROGRAM ": %s: %lu of %lu '%.*s' after %g s\n", path,
				w.seen, w.wanted, (int)w.event_length, w.event, seconds);
			return EXIT_TIMEOUT;
		}
		while (read(watch, events, sizeof(events)) > 0)
			;
	}
	fputs(w.line.data, stdout);
	return EXIT_SUCCESS;
}

/* ---- the command line --------------------------------------------------- */

static const char help[] =
"Usage: " PROGRAM " --dir PATH [OPTION]...\n"
"       " PROGRAM " --tell SOCKET COMMAND...   [--timeout SECONDS]\n"
"       " PROGRAM " --await LOG EVENT[:N]      [--timeout SECONDS]\n"
"\n"
"Serves erofs images through " DEFAULT_DEVICE " (on-demand mode), as well or as\n"
"badly as it is told. Without --on it is a correct daemon.\n"
"\n"
"The cache:\n"
"  --dir PATH            the cache directory (it must exist)\n"
"  --tag TAG             the name of the cache\n"
"  --limit NAME=N%       brun, bcull, bstop, frun, fcull, fstop; repeatable, in order\n"
"  --mode MODE           ondemand (default), classic (bind and idle) or none (open the\n"
"                        device but do not bind; go on with the control commands)\n"
"  --device PATH         default " DEFAULT_DEVICE "\n"
"  --wait-device SECONDS retry so long while the device is busy: a daemon that died leaves\n"
"                        it so until the kernel has unbound its cache\n"
"  --image NAME=FILE     FILE backs the cookie NAME (erofs: fsid= or device=); repeatable.\n"
"                        An OPEN of a cookie without image is answered with ENOENT.\n"
"\n"
"Misbehaviour:\n"
"  --on EVENT[:N]=ACTION repeatable; the first rule that matches wins. EVENT is open, read,\n"
"                        close or any. N picks the N-th such event, counted from 1; none or\n"
"                        '*' picks all.\n"
"    answer              as it should be (default); for a close: close the fd\n"
"    late:MS             the same, MS milliseconds later\n"
"    hold                the same, when the control command 'release' says so\n"
"    ignore              never, but go on with other requests\n"
"    error:ERRNO         open: report that error (EIO, ENOENT, 5...) and close the fd;\n"
"                        read: complete it without having written the data\n"
"    size:BYTES          open: report that size\n"
"    zeros, garbage      read: write zeros, or bytes a5\n"
"    close-fd            answer, then close the anonymous fd\n"
"    close-fd-first      close the anonymous fd, then answer\n"
"    fill                read: write all of the image, one write(2) after the other; once\n"
"                        for each anonymous fd\n"
"    stop                answer, then read the device no more, but stay alive\n"
"    exit, kill          end at once without an answer: _exit(0), SIGKILL\n"
"    close-device        no answer; close the device, keep the anonymous fds\n"
"\n"
"Running:\n"
"  --log FILE            append one JSON object a line; default: standard output. Use a new\n"
"                        file for each daemon, and not on the filesystem of the cache.\n"
"  --control SOCKET      take commands there\n"
"  --background          return when the cache is bound and SOCKET listens; exit 1 and one\n"
"                        sentence if that fails\n"
"  --pid-file FILE       removed again by an orderly exit (command 'exit', SIGTERM)\n"
"\n"
"COMMAND of --tell; the answer is one JSON object, exit code 0 if it says \"ok\":true:\n"
"    release [MSGID|all] [ACTION]  answer what is held or late (now, or with ACTION)\n"
"    status                        counters, held requests, open objects\n"
"    close-fd OBJECT|all           close anonymous fds\n"
"    close-device                  close the device, keep the anonymous fds\n"
"    cread OBJECT MSGID            complete a READ through the fd of that object, data or not\n"
"    cull PATH, inuse PATH         PATH relative to --dir, e.g. cache/Ierofs,a/@5f/Da\n"
"    command TEXT                  write TEXT to the device; \\n \\0 \\\\ \\xHH are understood\n"
"    poll [SECONDS]                revents of the device now, or as soon as there are any;\n"
"                                  nothing else is done meanwhile\n"
"    read-state                    classic mode: the text that the device gives\n"
"    take                          one read of the device, also when stopped; the answer has\n"
"                                  the length of the message, 0 for none\n"
"    stop, resume                  stop reading the device, go on reading it\n"
"    exit                          close all, answer when that is done, end\n"
"\n"
"--await prints the N-th line with that event (default: first), at once if it is there\n"
"already. Events: bound unbound open read close reply fd-closed device-closed stopped resumed\n"
"control empty-read error exit; 'any' is open, read or close. Exit code 124: timeout.\n"
"  --timeout SECONDS     for --await (default 30) and --tell (default 60)\n"
"\n"
"Exit codes: 0 done, 1 failed, 2 wrong command line, 124 timeout.\n"
"\n"
"Example: the second READ stays unanswered until it is released.\n"
"  " PROGRAM " --dir /cache --image a=/img/a.erofs --on read:2=hold --log /run/d.log \\\n"
"                  --control /run/d.sock --background\n"
"  mount -t erofs -o fsid=a none /m; cat /m/file &\n"
"  " PROGRAM " --await /run/d.log read:2 --timeout 20\n"
"  " PROGRAM " --tell /run/d.sock release all\n";

static bool action_fits(const struct action_word *word, enum event event)
{
	switch (event) {
	case EVENT_OPEN:
		return word->open;
	case EVENT_READ:
		return word->read;
	case EVENT_CLOSE:
		return word->close;
	default:
		return word->open && word->read && word->close;
	}
}

static bool parse_action(const char *text, enum event event, struct action *action,
			 const char **wrong)
{
	const char *colon = strchrnul(text, ':');
	size_t length = (size_t)(colon - text);
	const struct action_word *word = NULL;

	for (size_t i = 0; i < sizeof(action_words) / sizeof(action_words[0]); i++) {
		if (strlen(action_words[i].name) == length &&
		    !memcmp(action_words[i].name, text, length)) {
			word = &action_words[i];
			action->kind = (enum action_kind)i;
		}
	}
	*wrong = "there is no such action";
	if (!word)
		return false;
	*wrong = "that action does not fit that event";
	if (!action_fits(word, event))
		return false;
	*wrong = "that action takes no argument";
	if (word->argument == ARGUMENT_NONE)
		return !*colon;
	*wrong = "that action needs an errno, such as error:EIO or error:5";
	if (word->argument == ARGUMENT_ERRNO)
		return *colon && parse_errno(colon + 1, &action->argument);
	*wrong = "that action needs a number, such as late:500 or size:4096";
	return *colon && parse_number(colon + 1, &action->argument) && action->argument >= 0;
}

static void parse_rule(struct daemon *d, const char *text)
{
	struct rule **link = &d->rules, *rule = allocate(sizeof(*rule));
	const char *equals = strchrnul(text, '=');
	char *event = strndup(text, (size_t)(equals - text));
	const char *wrong;
	long long nth;
	char *colon;

	if (!event || !*equals)
		usage_error("--on %s: expected EVENT[:N]=ACTION", text);
	colon = strchr(event, ':');
	if (colon) {
		*colon++ = '\0';
		if (strcmp(colon, "*") && (!parse_number(colon, &nth) || nth < 1))
			usage_error("--on %s: N counts from 1, or is '*'", text);
		rule->nth = strcmp(colon, "*") ? (unsigned long)nth : 0;
	}
	while (rule->event < EVENT_COUNT && strcmp(event_names[rule->event], event))
		rule->event++;
	if (rule->event == EVENT_COUNT)
		usage_error("--on %s: events are open, read, close and any", text);
	if (!parse_action(equals + 1, rule->event, &rule->action, &wrong))
		usage_error("--on %s: %s", text, wrong);
	free(event);
	while (*link)
		link = &(*link)->next;
	*link = rule;
}

static void parse_image(struct daemon *d, const char *text)
{
	struct image *image = allocate(sizeof(*image));
	const char *equals = strchr(text, '=');

	if (!equals || equals == text || !equals[1])
		usage_error("--image %s: expected NAME=FILE", text);
	image->name = strndup(text, (size_t)(equals - text));
	image->path = absolute_path(equals + 1);
	image->fd = -1;
	image->next = d->images;
	d->images = image;
}

static void parse_limit(struct daemon *d, const char *text)
{
	const char *equals = strchr(text, '=');

	if (!equals || equals == text)
		usage_error("--limit %s: expected NAME=N%%, such as brun=10%%", text);
	text_printf(&d->limits, "%.*s %s", (int)(equals - text), text, equals + 1);
	text_append(&d->limits, "", 1);
}

static enum mode parse_mode(const char *text)
{
	for (size_t i = 0; i < sizeof(mode_names) / sizeof(mode_names[0]); i++)
		if (!strcmp(mode_names[i], text))
			return (enum mode)i;
	usage_error("--mode %s: expected ondemand, classic or none", text);
}

enum option_id {
	OPTION_DIR = 256,
	OPTION_TAG,
	OPTION_LIMIT,
	OPTION_MODE,
	OPTION_DEVICE,
	OPTION_WAIT_DEVICE,
	OPTION_IMAGE,
	OPTION_ON,
	OPTION_LOG,
	OPTION_CONTROL,
	OPTION_BACKGROUND,
	OPTION_PID_FILE,
	OPTION_TELL,
	OPTION_AWAIT,
	OPTION_TIMEOUT,
	OPTION_HELP = 'h',
};

static const struct option options[] = {
	{ "dir",	required_argument, NULL, OPTION_DIR },
	{ "tag",	required_argument, NULL, OPTION_TAG },
	{ "limit",	required_argument, NULL, OPTION_LIMIT },
	{ "mode",	required_argument, NULL, OPTION_MODE },
	{ "device",	required_argument, NULL, OPTION_DEVICE },
	{ "wait-device", required_argument, NULL, OPTION_WAIT_DEVICE },
	{ "image",	required_argument, NULL, OPTION_IMAGE },
	{ "on",		required_argument, NULL, OPTION_ON },
	{ "log",	required_argument, NULL, OPTION_LOG },
	{ "control",	required_argument, NULL, OPTION_CONTROL },
	{ "background",	no_argument,	   NULL, OPTION_BACKGROUND },
	{ "pid-file",	required_argument, NULL, OPTION_PID_FILE },
	{ "tell",	required_argument, NULL, OPTION_TELL },
	{ "await",	required_argument, NULL, OPTION_AWAIT },
	{ "timeout",	required_argument, NULL, OPTION_TIMEOUT },
	{ "help",	no_argument,	   NULL, OPTION_HELP },
	{ NULL, 0, NULL, 0 },
};

struct front {			/* options of --tell and --await */
	const char *tell, *await;
	double seconds;		/* < 0: not given */
};

static void take_option(struct daemon *d, struct front *front, int option)
{
	switch (option) {
	case OPTION_DIR:
		d->directory = absolute_path(optarg);
		break;
	case OPTION_TAG:
		d->tag = optarg;
		break;
	case OPTION_LIMIT:
		parse_limit(d, optarg);
		break;
	case OPTION_MODE:
		d->mode = parse_mode(optarg);
		break;
	case OPTION_DEVICE:
		d->device_path = absolute_path(optarg);
		break;
	case OPTION_WAIT_DEVICE:
		if (!parse_seconds(optarg, &d->wait_device))
			usage_error("--wait-device %s: expected seconds, such as 2.5", optarg);
		break;
	case OPTION_IMAGE:
		parse_image(d, optarg);
		break;
	case OPTION_ON:
		parse_rule(d, optarg);
		break;
	case OPTION_LOG:
		d->log_path = absolute_path(optarg);
		break;
	case OPTION_CONTROL:
		d->control_path = absolute_path(optarg);
		break;
	case OPTION_BACKGROUND:
		d->background = true;
		break;
	case OPTION_PID_FILE:
		d->pid_path = absolute_path(optarg);
		break;
	case OPTION_TELL:
		front->tell = optarg;
		break;
	case OPTION_AWAIT:
		front->await = optarg;
		break;
	case OPTION_TIMEOUT:
		if (!parse_seconds(optarg, &front->seconds))
			usage_error("--timeout %s: expected seconds, such as 2.5", optarg);
		break;
	case OPTION_HELP:
		fputs(help, stdout);
		exit(EXIT_SUCCESS);
	default:	/* getopt_long() has said what is wrong */
		fputs("Try '" PROGRAM " --help'.\n", stderr);
		exit(EXIT_USAGE);
	}
}

int main(int argc, char **argv)
{
	static struct daemon d = {
		.device_path = DEFAULT_DEVICE,
		.device = { WATCH_DEVICE, -1 },
		.signals = { WATCH_SIGNAL, -1 },
		.listener = { WATCH_LISTENER, -1 },
		.epoll = -1,
		.log = -1,
		.last_read_error = -1,
	};
	struct front front = { .seconds = -1 };
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1)
		take_option(&d, &front, option);

	if (front.tell)
		return tell(front.tell, argv + optind,
			    front.seconds < 0 ? DEFAULT_TELL_SECONDS : front.seconds);
	if (front.await) {
		if (argc - optind != 1)
			usage_error("--await %s: expected exactly one EVENT[:N]", front.await);
		return await(front.await, argv[optind],
			     front.seconds < 0 ? DEFAULT_AWAIT_SECONDS : front.seconds);
	}
	if (optind < argc)
		usage_error("what is '%s'?", argv[optind]);
	if (!d.directory && d.mode != MODE_NONE)
		usage_error("--dir is missing: which directory holds the cache?");
	return run_daemon(&d);
}
