// SPDX-License-Identifier: GPL-2.0-only
/*
 * Delays at the entry of kernel functions, to make race windows wide.
 *
 * /sys/kernel/debug/lab_delay/add takes a line
 *
 *	function=NAME ms=N [times=N] [skip=N] [comm=PATTERN] [pid=N] [module=NAME] [how=spin|sleep]
 *	[until=NAME]
 *
 * and puts a kprobe on NAME. A task that enters it and matches is delayed by N
 * milliseconds before the first instruction. testcases/guest/README.md has the
 * whole interface.
 *
 * how=spin stays in the pre-handler: preemption and (on x86, where a kprobe is
 * a breakpoint) interrupts are off on that CPU for all of the delay.
 *
 * how=sleep sends the task through lab_delay_thunk instead, as if the function
 * had begun with a call of it. That runs in the function's own context, so it
 * can sleep where the function could. It then returns to the breakpoint, which
 * is hit a second time and lets the task pass. A visit in the table below says
 * which of the two hits it is.
 *
 * until=NAME is a rendezvous: the delay ends when a task has passed the probe
 * on that function. The waiting side looks every tick; nobody is woken from
 * inside a breakpoint.
 *
 * The module of a probed function can be unloaded: a kprobe holds no reference
 * to it, and the kernel marks the probe "gone".
 */
#include <linux/atomic.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/nmi.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#ifdef CONFIG_X86_64
#include <asm/ibt.h>
#include <asm/linkage.h>
#include <asm/text-patching.h>
#endif

#define LAB_DELAY_LINE_MAX	1024
#define LAB_DELAY_PATTERN_MAX	32
#define LAB_DELAY_VISITS	64
/* A longer spin would make the watchdogs (20 s soft lockup, 21 s RCU) report the lab itself. */
#define LAB_DELAY_SPIN_MAX_MS	15000
#define LAB_DELAY_SLEEP_MAX_MS	600000
#define LAB_DELAY_DRAIN_MS	10000

enum lab_delay_how {
	LAB_DELAY_SPIN,
	LAB_DELAY_SLEEP,
};

/* What a line of "add" says. */
struct lab_delay_spec {
	char function[KSYM_NAME_LEN];
	char module[MODULE_NAME_LEN];
	char until[KSYM_NAME_LEN];		/* empty: nobody is waited for */
	char comm[LAB_DELAY_PATTERN_MAX];	/* empty: every task */
	pid_t pid;				/* 0: every task */
	unsigned int ms;
	u64 times;				/* 0: without end */
	u64 skip;
	enum lab_delay_how how;
};

struct lab_delay_probe {
	struct list_head list;
	struct kprobe kp;
	struct lab_delay_spec spec;
	char symbol[MODULE_NAME_LEN + KSYM_NAME_LEN];
	struct dentry *dir;
	struct lab_delay_probe *partner;	/* whom "until" names; NULL when its probe has gone */
	wait_queue_head_t wait;
	atomic_t releases;			/* a delay ends when this changes */
	bool removing;				/* let everybody pass */

	atomic64_t hits;
	atomic64_t matched;
	atomic64_t delayed;
	atomic64_t slept;			/* of the delayed ones; the others spun */
	atomic64_t passed;			/* matched, and not delayed any more */
	atomic64_t inside;
	atomic64_t max_parallel;
	atomic64_t total_ms;
};

/* A task between its first and its second hit of a probe (how=sleep). */
struct lab_delay_visit {
	struct task_struct *task;		/* NULL: free */
	struct lab_delay_probe *probe;
	int releases;
	bool done;
};

static struct lab_delay_visit lab_delay_visits[LAB_DELAY_VISITS];
static LIST_HEAD(lab_delay_probes);
static DEFINE_MUTEX(lab_delay_mutex);		/* the list, and who registers */
static struct dentry *lab_delay_dir;

/* ---- the delay itself ---- */

static bool lab_delay_partner_passed(struct lab_delay_probe *probe)
{
	struct lab_delay_probe *partner;
	bool passed;

	rcu_read_lock();
	partner = READ_ONCE(probe->partner);
	passed = partner && atomic64_read(&partner->passed);
	rcu_read_unlock();
	return passed;
}
NOKPROBE_SYMBOL(lab_delay_partner_passed);

static bool lab_delay_ended(struct lab_delay_probe *probe, int releases)
{
	return READ_ONCE(probe->removing) || atomic_read(&probe->releases) != releases ||
	       lab_delay_partner_passed(probe);
}
NOKPROBE_SYMBOL(lab_delay_ended);

static void lab_delay_enter(struct lab_delay_probe *probe)
{
	s64 inside = atomic64_inc_return(&probe->inside);
	s64 max = atomic64_read(&probe->max_parallel);

	while (inside > max && !atomic64_try_cmpxchg(&probe->max_parallel, &max, inside))
		;
}
NOKPROBE_SYMBOL(lab_delay_enter);

static void lab_delay_leave(struct lab_delay_probe *probe, u64 start_ns)
{
	atomic64_add((ktime_get_mono_fast_ns() - start_ns) / NSEC_PER_MSEC, &probe->total_ms);
	atomic64_dec(&probe->inside);
}
NOKPROBE_SYMBOL(lab_delay_leave);

/*
 * The clock decides when it is over, the number of slices is a second bound: no
 * clock must keep us here for ever.
 */
static void lab_delay_spin(struct lab_delay_probe *probe, int releases)
{
	u64 start = ktime_get_mono_fast_ns();
	u64 end = start + (u64)probe->spec.ms * NSEC_PER_MSEC;
	unsigned int slices = 4 * probe->spec.ms;

	lab_delay_enter(probe);
	while (slices-- && ktime_get_mono_fast_ns() < end && !lab_delay_ended(probe, releases)) {
		mdelay(1);
		touch_softlockup_watchdog();
		touch_nmi_watchdog();
	}
	lab_delay_leave(probe, start);
}
NOKPROBE_SYMBOL(lab_delay_spin);

/* The probe goes first: a visit that somebody has just taken must not look like ours. */
static void lab_delay_end_visit(struct lab_delay_visit *visit)
{
	WRITE_ONCE(visit->probe, NULL);
	smp_store_release(&visit->task, NULL);	/* frees the slot: after all else */
}
NOKPROBE_SYMBOL(lab_delay_end_visit);

#ifdef CONFIG_X86_64

void lab_delay_thunk(void);
void lab_delay_stay(void);

/*
 * Entered with the address to go back to on the stack. All registers and flags
 * are kept: the function has not begun yet, its arguments lie there.
 */
asm(
".pushsection .text\n"
".globl lab_delay_thunk\n"
".type lab_delay_thunk, @function\n"
"lab_delay_thunk:\n"
	ASM_ENDBR
"	push %rbp\n"
"	mov %rsp, %rbp\n"
"	pushfq\n"
"	push %rax\n"
"	push %rcx\n"
"	push %rdx\n"
"	push %rsi\n"
"	push %rdi\n"
"	push %r8\n"
"	push %r9\n"
"	push %r10\n"
"	push %r11\n"
"	call lab_delay_stay\n"
"	pop %r11\n"
"	pop %r10\n"
"	pop %r9\n"
"	pop %r8\n"
"	pop %rdi\n"
"	pop %rsi\n"
"	pop %rdx\n"
"	pop %rcx\n"
"	pop %rax\n"
"	popfq\n"
"	pop %rbp\n"
	ASM_RET
".size lab_delay_thunk, .-lab_delay_thunk\n"
".popsection\n"
);

static bool lab_delay_can_sleep(void)
{
	/* Without a preemption count nobody can tell whether a spinlock is held. */
	return IS_ENABLED(CONFIG_PREEMPT_COUNT) && preemptible() &&
	       get_current_state() == TASK_RUNNING;
}
NOKPROBE_SYMBOL(lab_delay_can_sleep);

/* A task has one visit at most. */
static struct lab_delay_visit *lab_delay_find_visit(void)
{
	int i;

	for (i = 0; i < LAB_DELAY_VISITS; i++)
		if (READ_ONCE(lab_delay_visits[i].task) == current)
			return &lab_delay_visits[i];
	return NULL;
}
NOKPROBE_SYMBOL(lab_delay_find_visit);

static void lab_delay_sleep(struct lab_delay_probe *probe, int releases)
{
	unsigned long left = msecs_to_jiffies(probe->spec.ms);
	unsigned long slice = probe->spec.until[0] ? 1 : left;

	/* Every slice ends with a look at the partner. */
	for (; left && !lab_delay_ended(probe, releases); left -= min(left, slice))
		wait_event_idle_timeout(probe->wait, lab_delay_ended(probe, releases), slice);
}
NOKPROBE_SYMBOL(lab_delay_sleep);

/* Runs in the place of the probed function. */
asmlinkage __visible void lab_delay_stay(void)
{
	struct lab_delay_visit *visit = lab_delay_find_visit();
	struct lab_delay_probe *probe;
	u64 start;

	if (WARN_ON_ONCE(!visit))
		return;
	probe = visit->probe;
	if (lab_delay_can_sleep()) {
		start = ktime_get_mono_fast_ns();
		atomic64_inc(&probe->slept);
		lab_delay_enter(probe);
		lab_delay_sleep(probe, visit->releases);
		lab_delay_leave(probe, start);
	} else {
		lab_delay_spin(probe, visit->releases);
	}
	atomic64_inc(&probe->passed);
	WRITE_ONCE(visit->done, true);
}
NOKPROBE_SYMBOL(lab_delay_stay);

/* The second hit, or a hit by what the delay itself calls: not to be counted or delayed. */
static bool lab_delay_passes(struct lab_delay_probe *probe)
{
	struct lab_delay_visit *visit = lab_delay_find_visit();

	if (!visit || visit->probe != probe)
		return false;
	if (visit->done)
		lab_delay_end_visit(visit);
	return true;
}
NOKPROBE_SYMBOL(lab_delay_passes);

/* False when the task cannot be sent through the thunk; then it has to spin. */
static bool lab_delay_divert(struct lab_delay_probe *probe, struct pt_regs *regs, int releases)
{
	int i;

	/* A probe through ftrace cannot push. A delay inside a delay would need an order. */
	if (kprobe_ftrace(&probe->kp) || lab_delay_find_visit())
		return false;
	for (i = 0; i < LAB_DELAY_VISITS; i++) {
		struct lab_delay_visit *visit = &lab_delay_visits[i];

		if (READ_ONCE(visit->task) || cmpxchg(&visit->task, NULL, current))
			continue;
		visit->releases = releases;
		visit->done = false;
		WRITE_ONCE(visit->probe, probe);
		int3_emulate_push(regs, (unsigned long)probe->kp.addr);
		regs->ip = (unsigned long)lab_delay_thunk;
		return true;
	}
	return false;
}
NOKPROBE_SYMBOL(lab_delay_divert);

#else /* !CONFIG_X86_64 */

static bool lab_delay_passes(struct lab_delay_probe *probe)
{
	return false;
}

static bool lab_delay_divert(struct lab_delay_probe *probe, struct pt_regs *regs, int releases)
{
	return false;
}

#endif

/* ---- the probe ---- */

/* '*' and '?', nothing else. */
static bool lab_delay_glob(const char *pattern, const char *text)
{
	const char *star = NULL, *resume = NULL;

	while (*text) {
		if (*pattern == '*') {
			star = pattern++;
			resume = text;
		} else if (*pattern == '?' || *pattern == *text) {
			pattern++;
			text++;
		} else if (star) {
			pattern = star + 1;
			text = ++resume;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return !*pattern;
}
NOKPROBE_SYMBOL(lab_delay_glob);

static bool lab_delay_matches(const struct lab_delay_spec *spec)
{
	if (spec->pid && spec->pid != current->pid && spec->pid != current->tgid)
		return false;
	return !spec->comm[0] || lab_delay_glob(spec->comm, current->comm);
}
NOKPROBE_SYMBOL(lab_delay_matches);

/* Counts the match; true when this one is to be delayed. */
static bool lab_delay_is_due(struct lab_delay_probe *probe)
{
	s64 delayed = atomic64_read(&probe->delayed);

	if (atomic64_inc_return(&probe->matched) <= (s64)probe->spec.skip)
		return false;
	do {
		if (probe->spec.times && delayed >= (s64)probe->spec.times)
			return false;
	} while (!atomic64_try_cmpxchg(&probe->delayed, &delayed, delayed + 1));
	return true;
}
NOKPROBE_SYMBOL(lab_delay_is_due);

static int lab_delay_pre_handler(struct kprobe *kp, struct pt_regs *regs)
{
	struct lab_delay_probe *probe = container_of(kp, struct lab_delay_probe, kp);
	int releases = atomic_read(&probe->releases);

	if (probe->spec.how == LAB_DELAY_SLEEP && lab_delay_passes(probe))
		return 0;
	atomic64_inc(&probe->hits);
	if (READ_ONCE(probe->removing) || !lab_delay_matches(&probe->spec))
		return 0;
	if (lab_delay_is_due(probe)) {
		if (probe->spec.how == LAB_DELAY_SLEEP && lab_delay_divert(probe, regs, releases))
			return 1;	/* regs->ip is somewhere else now */
		lab_delay_spin(probe, releases);
	}
	atomic64_inc(&probe->passed);
	return 0;
}
NOKPROBE_SYMBOL(lab_delay_pre_handler);

/*
 * A probe with a post-handler is never turned into a jump. The kernel would do
 * that some time after the registration and only where it can: delays would run
 * now with and now without interrupts, and a jump cannot be diverted.
 */
static void lab_delay_post_handler(struct kprobe *kp, struct pt_regs *regs, unsigned long flags)
{
}
NOKPROBE_SYMBOL(lab_delay_post_handler);

static void lab_delay_release(struct lab_delay_probe *probe)
{
	atomic_inc(&probe->releases);
	wake_up_all(&probe->wait);
}

/* Is a task between its two hits of this probe? */
static bool lab_delay_visited(struct lab_delay_probe *probe, bool done_too)
{
	int i;

	for (i = 0; i < LAB_DELAY_VISITS; i++) {
		struct lab_delay_visit *visit = &lab_delay_visits[i];

		if (READ_ONCE(visit->probe) == probe && (done_too || !READ_ONCE(visit->done)))
			return true;
	}
	return false;
}

static void lab_delay_forget_visits(struct lab_delay_probe *probe)
{
	int i;

	for (i = 0; i < LAB_DELAY_VISITS; i++)
		if (READ_ONCE(lab_delay_visits[i].probe) == probe)
			lab_delay_end_visit(&lab_delay_visits[i]);
}

/*
 * Nobody may be left in the thunk when its text or the probe goes away. The
 * second hit shows that a task has left it, so the probe stays armed until then.
 * With a probe that is gone there is no second hit: give those tasks the time
 * for the few instructions behind "done".
 */
static void lab_delay_drain(struct lab_delay_probe *probe)
{
	int ms;

	synchronize_rcu();	/* handlers that did not see "removing" yet */
	for (ms = 0; lab_delay_visited(probe, !kprobe_gone(&probe->kp)); ms++) {
		wake_up_all(&probe->wait);
		msleep(1);
		if (WARN_ONCE(ms > LAB_DELAY_DRAIN_MS, "lab_delay: a task does not leave %s\n",
			      probe->spec.function))
			break;
	}
	if (kprobe_gone(&probe->kp))
		msleep(50);
	lab_delay_forget_visits(probe);
}

/* Nobody looks at this probe any more when this returns. */
static void lab_delay_leave_partners(struct lab_delay_probe *probe)
{
	struct lab_delay_probe *other;
	bool left = false;

	list_for_each_entry(other, &lab_delay_probes, list) {
		if (other->partner != probe)
			continue;
		WRITE_ONCE(other->partner, NULL);
		left = true;
	}
	if (left)
		synchronize_rcu();
}

static void lab_delay_remove_probe(struct lab_delay_probe *probe)
{
	lab_delay_leave_partners(probe);
	WRITE_ONCE(probe->removing, true);
	lab_delay_release(probe);
	if (probe->spec.how == LAB_DELAY_SLEEP)
		lab_delay_drain(probe);
	unregister_kprobe(&probe->kp);	/* waits for the handlers that run */
	debugfs_remove(probe->dir);
	list_del(&probe->list);
	kfree(probe);
}

static struct lab_delay_probe *lab_delay_find(const char *function)
{
	struct lab_delay_probe *probe;

	list_for_each_entry(probe, &lab_delay_probes, list)
		if (!strcmp(probe->spec.function, function))
			return probe;
	return NULL;
}

/* ---- debugfs: what a probe shows ---- */

static int lab_delay_counter_get(void *data, u64 *value)
{
	*value = atomic64_read(data);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(lab_delay_counter_fops, lab_delay_counter_get, NULL, "%llu\n");

static int lab_delay_missed_get(void *data, u64 *value)
{
	struct lab_delay_probe *probe = data;

	*value = READ_ONCE(probe->kp.nmissed);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(lab_delay_missed_fops, lab_delay_missed_get, NULL, "%llu\n");

static const char *lab_delay_state(struct lab_delay_probe *probe)
{
	if (kprobe_gone(&probe->kp))
		return "gone";
	if (probe->spec.times && atomic64_read(&probe->delayed) >= (s64)probe->spec.times)
		return "spent";
	return "armed";
}

static int lab_delay_state_show(struct seq_file *file, void *unused)
{
	seq_printf(file, "%s\n", lab_delay_state(file->private));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(lab_delay_state);

static int lab_delay_make_files(struct lab_delay_probe *probe)
{
	struct dentry *dir = debugfs_create_dir(probe->spec.function, lab_delay_dir);

	if (IS_ERR(dir))
		return PTR_ERR(dir);
	probe->dir = dir;
#define LAB_DELAY_COUNTER(name)							\
	debugfs_create_file_unsafe(#name, 0444, dir, &probe->name, &lab_delay_counter_fops)
	LAB_DELAY_COUNTER(hits);
	LAB_DELAY_COUNTER(matched);
	LAB_DELAY_COUNTER(delayed);
	LAB_DELAY_COUNTER(slept);
	LAB_DELAY_COUNTER(passed);
	LAB_DELAY_COUNTER(inside);
	LAB_DELAY_COUNTER(max_parallel);
	LAB_DELAY_COUNTER(total_ms);
#undef LAB_DELAY_COUNTER
	debugfs_create_file_unsafe("missed", 0444, dir, probe, &lab_delay_missed_fops);
	debugfs_create_file("state", 0444, dir, probe, &lab_delay_state_fops);
	return 0;
}

/* ---- debugfs: add, remove, release ---- */

static int lab_delay_copy_word(char *to, size_t room, const char *value)
{
	return !*value || strscpy(to, value, room) < 0 ? -EINVAL : 0;
}

static int lab_delay_parse_how(struct lab_delay_spec *spec, const char *value)
{
	if (!strcmp(value, "spin"))
		spec->how = LAB_DELAY_SPIN;
	else if (!strcmp(value, "sleep"))
		spec->how = LAB_DELAY_SLEEP;
	else
		return -EINVAL;
	return spec->how == LAB_DELAY_SLEEP && !IS_ENABLED(CONFIG_X86_64) ? -EOPNOTSUPP : 0;
}

static int lab_delay_parse_word(struct lab_delay_spec *spec, char *word, bool *has_ms)
{
	char *value = strchr(word, '=');

	if (!value)
		return -EINVAL;
	*value++ = '\0';
	if (!strcmp(word, "function"))
		return lab_delay_copy_word(spec->function, sizeof(spec->function), value);
	if (!strcmp(word, "module"))
		return lab_delay_copy_word(spec->module, sizeof(spec->module), value);
	if (!strcmp(word, "comm"))
		return lab_delay_copy_word(spec->comm, sizeof(spec->comm), value);
	if (!strcmp(word, "until"))
		return lab_delay_copy_word(spec->until, sizeof(spec->until), value);
	if (!strcmp(word, "pid"))
		return kstrtoint(value, 10, &spec->pid) || spec->pid <= 0 ? -EINVAL : 0;
	if (!strcmp(word, "times"))
		return kstrtou64(value, 10, &spec->times) ? -EINVAL : 0;
	if (!strcmp(word, "skip"))
		return kstrtou64(value, 10, &spec->skip) ? -EINVAL : 0;
	if (!strcmp(word, "how"))
		return lab_delay_parse_how(spec, value);
	if (!strcmp(word, "ms")) {
		*has_ms = true;
		return kstrtouint(value, 10, &spec->ms) ? -EINVAL : 0;
	}
	return -EINVAL;
}

static int lab_delay_parse(struct lab_delay_spec *spec, char *line)
{
	bool has_ms = false;
	char *word;
	int ret;

	while ((word = strsep(&line, " \t"))) {
		if (!*word)
			continue;
		ret = lab_delay_parse_word(spec, word, &has_ms);
		if (ret)
			return ret;
	}
	if (!spec->function[0] || !has_ms || strchr(spec->function, '/'))
		return -EINVAL;
	if (spec->ms > (spec->how == LAB_DELAY_SPIN ? LAB_DELAY_SPIN_MAX_MS :
						      LAB_DELAY_SLEEP_MAX_MS))
		return -ERANGE;
	return 0;
}

/* Takes the probe: afterwards it is in the list, or freed. */
static int lab_delay_register(struct lab_delay_probe *probe)
{
	struct lab_delay_probe *old = lab_delay_find(probe->spec.function);
	int ret;

	if (old && !kprobe_gone(&old->kp)) {
		kfree(probe);
		return -EEXIST;
	}
	if (old)	/* its module is not the one that is loaded now */
		lab_delay_remove_probe(old);

	if (probe->spec.until[0]) {
		probe->partner = lab_delay_find(probe->spec.until);
		if (!probe->partner) {
			kfree(probe);
			return -ENOENT;
		}
	}
	snprintf(probe->symbol, sizeof(probe->symbol), "%s%s%s", probe->spec.module,
		 probe->spec.module[0] ? ":" : "", probe->spec.function);
	probe->kp.symbol_name = probe->symbol;
	probe->kp.pre_handler = lab_delay_pre_handler;
	probe->kp.post_handler = lab_delay_post_handler;
	init_waitqueue_head(&probe->wait);
	ret = register_kprobe(&probe->kp);
	if (ret) {
		kfree(probe);
		return ret;
	}
	list_add_tail(&probe->list, &lab_delay_probes);
	ret = lab_delay_make_files(probe);
	if (ret)
		lab_delay_remove_probe(probe);
	return ret;
}

static int lab_delay_add(char *line)
{
	struct lab_delay_probe *probe = kzalloc(sizeof(*probe), GFP_KERNEL);
	int ret;

	if (!probe)
		return -ENOMEM;
	ret = lab_delay_parse(&probe->spec, line);
	if (ret) {
		kfree(probe);
		return ret;
	}
	mutex_lock(&lab_delay_mutex);
	ret = lab_delay_register(probe);
	mutex_unlock(&lab_delay_mutex);
	return ret;
}

/* For one probe or for all of them. */
static int lab_delay_apply(const char *name, void (*apply)(struct lab_delay_probe *probe))
{
	struct lab_delay_probe *probe, *next;
	int ret = strcmp(name, "all") ? -ENOENT : 0;

	mutex_lock(&lab_delay_mutex);
	list_for_each_entry_safe(probe, next, &lab_delay_probes, list) {
		if (strcmp(name, "all") && strcmp(name, probe->spec.function))
			continue;
		apply(probe);
		ret = 0;
	}
	mutex_unlock(&lab_delay_mutex);
	return ret;
}

static int lab_delay_remove_line(char *line)
{
	return lab_delay_apply(line, lab_delay_remove_probe);
}

static int lab_delay_release_line(char *line)
{
	return lab_delay_apply(line, lab_delay_release);
}

static ssize_t lab_delay_write_line(const char __user *buffer, size_t length, int (*take)(char *))
{
	char *line;
	int ret;

	if (length > LAB_DELAY_LINE_MAX)
		return -EINVAL;
	line = memdup_user_nul(buffer, length);
	if (IS_ERR(line))
		return PTR_ERR(line);
	ret = take(strim(line));
	kfree(line);
	return ret ? ret : length;
}

static ssize_t lab_delay_add_write(struct file *file, const char __user *buffer, size_t length,
				   loff_t *offset)
{
	return lab_delay_write_line(buffer, length, lab_delay_add);
}

static ssize_t lab_delay_remove_write(struct file *file, const char __user *buffer, size_t length,
				      loff_t *offset)
{
	return lab_delay_write_line(buffer, length, lab_delay_remove_line);
}

static ssize_t lab_delay_release_write(struct file *file, const char __user *buffer,
				       size_t length, loff_t *offset)
{
	return lab_delay_write_line(buffer, length, lab_delay_release_line);
}

/* What was added, in the words of "add". */
static int lab_delay_add_show(struct seq_file *file, void *unused)
{
	struct lab_delay_probe *probe;

	mutex_lock(&lab_delay_mutex);
	list_for_each_entry(probe, &lab_delay_probes, list) {
		const struct lab_delay_spec *spec = &probe->spec;

		seq_printf(file, "function=%s ms=%u times=%llu skip=%llu", spec->function,
			   spec->ms, spec->times, spec->skip);
		if (spec->comm[0])
			seq_printf(file, " comm=%s", spec->comm);
		if (spec->pid)
			seq_printf(file, " pid=%d", spec->pid);
		if (spec->module[0])
			seq_printf(file, " module=%s", spec->module);
		if (spec->until[0])
			seq_printf(file, " until=%s", spec->until);
		seq_printf(file, " how=%s\n", spec->how == LAB_DELAY_SLEEP ? "sleep" : "spin");
	}
	mutex_unlock(&lab_delay_mutex);
	return 0;
}

static int lab_delay_add_open(struct inode *inode, struct file *file)
{
	return single_open(file, lab_delay_add_show, NULL);
}

static const struct file_operations lab_delay_add_fops = {
	.owner	 = THIS_MODULE,
	.open	 = lab_delay_add_open,
	.read	 = seq_read,
	.llseek	 = seq_lseek,
	.write	 = lab_delay_add_write,
	.release = single_release,
};

static const struct file_operations lab_delay_remove_fops = {
	.owner	= THIS_MODULE,
	.open	= simple_open,
	.write	= lab_delay_remove_write,
};

static const struct file_operations lab_delay_release_fops = {
	.owner	= THIS_MODULE,
	.open	= simple_open,
	.write	= lab_delay_release_write,
};

static int __init lab_delay_init(void)
{
	lab_delay_dir = debugfs_create_dir("lab_delay", NULL);
	if (IS_ERR(lab_delay_dir))
		return PTR_ERR(lab_delay_dir);
	debugfs_create_file("add", 0600, lab_delay_dir, NULL, &lab_delay_add_fops);
	debugfs_create_file("remove", 0200, lab_delay_dir, NULL, &lab_delay_remove_fops);
	debugfs_create_file("release", 0200, lab_delay_dir, NULL, &lab_delay_release_fops);
	return 0;
}

/* No file of ours is open any more (they hold the module), so nobody adds probes. */
static void __exit lab_delay_exit(void)
{
	lab_delay_apply("all", lab_delay_remove_probe);
	debugfs_remove(lab_delay_dir);
}

module_init(lab_delay_init);
module_exit(lab_delay_exit);
MODULE_DESCRIPTION("Delays at the entry of kernel functions, to make race windows wide");
MODULE_LICENSE("GPL");
