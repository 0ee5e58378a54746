// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes the N-th failure of a kernel function happen, whichever task calls it.
 *
 * /proc/PID/fail-nth counts all that a task does. A worker does other things, too, and which
 * worker is going to do a piece of work is not known before: so N is given to
 * the task that enters the function, and taken back when it returns. What is
 * left of N goes to the next call, until there is nothing left.
 *
 * /sys/kernel/debug/lab_fail_nth/
 *	function	its name; an empty line for none
 *	nth		N, counted over all calls from now on; 0 for none
 *	state		one JSON object: calls that were given something, whether the
 *			failure happened, and to which task
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/uaccess.h>

static struct dentry *lab_fail_nth_dir;
static DEFINE_MUTEX(lab_fail_nth_mutex);	/* registering */
static DEFINE_RAW_SPINLOCK(lab_fail_nth_lock);	/* all below */
static struct task_struct *lab_fail_nth_owner;	/* has what is left of N at this moment */
static unsigned int lab_fail_nth_left;
static unsigned int lab_fail_nth_calls;
static int lab_fail_nth_pid;			/* of the task that the failure happened to */

static int lab_fail_nth_enter(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	unsigned long flags;
	bool given;

	raw_spin_lock_irqsave(&lab_fail_nth_lock, flags);
	given = lab_fail_nth_left && !lab_fail_nth_owner && !current->fail_nth;
	if (given) {
		lab_fail_nth_owner = current;
		lab_fail_nth_calls++;
		current->fail_nth = lab_fail_nth_left;
	}
	raw_spin_unlock_irqrestore(&lab_fail_nth_lock, flags);
	return !given;	/* then its return is of no interest */
}
NOKPROBE_SYMBOL(lab_fail_nth_enter);

static int lab_fail_nth_return(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&lab_fail_nth_lock, flags);
	if (lab_fail_nth_owner == current) {
		lab_fail_nth_left = current->fail_nth;
		current->fail_nth = 0;
		lab_fail_nth_owner = NULL;
		if (!lab_fail_nth_left)
			lab_fail_nth_pid = task_pid_nr(current);
	}
	raw_spin_unlock_irqrestore(&lab_fail_nth_lock, flags);
	return 0;
}
NOKPROBE_SYMBOL(lab_fail_nth_return);

static char lab_fail_nth_function[KSYM_NAME_LEN];
static struct kretprobe lab_fail_nth_probe;

static void lab_fail_nth_unregister(void)
{
	if (lab_fail_nth_function[0])
		unregister_kretprobe(&lab_fail_nth_probe);
	lab_fail_nth_function[0] = '\0';
}

static int lab_fail_nth_register(const char *name)
{
	int ret;

	lab_fail_nth_unregister();
	if (!*name)
		return 0;
	/* What an earlier registration has left in it must not be there. */
	memset(&lab_fail_nth_probe, 0, sizeof(lab_fail_nth_probe));
	strscpy(lab_fail_nth_function, name, sizeof(lab_fail_nth_function));
	lab_fail_nth_probe.kp.symbol_name = lab_fail_nth_function;
	lab_fail_nth_probe.entry_handler = lab_fail_nth_enter;
	lab_fail_nth_probe.handler = lab_fail_nth_return;
	ret = register_kretprobe(&lab_fail_nth_probe);
	if (ret)
		lab_fail_nth_function[0] = '\0';
	return ret;
}

static ssize_t lab_fail_nth_function_write(struct file *file, const char __user *data,
					   size_t length, loff_t *pos)
{
	char name[KSYM_NAME_LEN] = "";
	int ret;

	if (length >= sizeof(name))
		return -EINVAL;
	if (copy_from_user(name, data, length))
		return -EFAULT;
	mutex_lock(&lab_fail_nth_mutex);
	ret = lab_fail_nth_register(strim(name));
	mutex_unlock(&lab_fail_nth_mutex);
	return ret ? ret : (ssize_t)length;
}

static const struct file_operations lab_fail_nth_function_fops = {
	.owner	= THIS_MODULE,
	.open	= simple_open,
	.write	= lab_fail_nth_function_write,
};

static int lab_fail_nth_nth_set(void *data, u64 nth)
{
	raw_spin_lock_irq(&lab_fail_nth_lock);
	/* Whoever is in the function keeps what it has; it is not counted any more. */
	lab_fail_nth_owner = NULL;
	lab_fail_nth_left = (unsigned int)nth;
	lab_fail_nth_calls = 0;
	lab_fail_nth_pid = 0;
	raw_spin_unlock_irq(&lab_fail_nth_lock);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(lab_fail_nth_nth_fops, NULL, lab_fail_nth_nth_set, "%llu\n");

static int lab_fail_nth_state_show(struct seq_file *seq, void *unused)
{
	unsigned int calls;
	int pid;

	raw_spin_lock_irq(&lab_fail_nth_lock);
	calls = lab_fail_nth_calls;
	pid = lab_fail_nth_pid;
	raw_spin_unlock_irq(&lab_fail_nth_lock);
	seq_printf(seq, "{\"calls\":%u,\"injected\":%s,\"pid\":%d}\n", calls,
		   pid ? "true" : "false", pid);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(lab_fail_nth_state);

static int __init lab_fail_nth_init(void)
{
	lab_fail_nth_dir = debugfs_create_dir("lab_fail_nth", NULL);
	if (IS_ERR(lab_fail_nth_dir))
		return PTR_ERR(lab_fail_nth_dir);
	debugfs_create_file("function", 0200, lab_fail_nth_dir, NULL, &lab_fail_nth_function_fops);
	debugfs_create_file_unsafe("nth", 0200, lab_fail_nth_dir, NULL, &lab_fail_nth_nth_fops);
	debugfs_create_file("state", 0400, lab_fail_nth_dir, NULL, &lab_fail_nth_state_fops);
	return 0;
}

static void __exit lab_fail_nth_exit(void)
{
	debugfs_remove_recursive(lab_fail_nth_dir);
	lab_fail_nth_unregister();
}

module_init(lab_fail_nth_init);
module_exit(lab_fail_nth_exit);
MODULE_DESCRIPTION("Makes the N-th failure of a kernel function happen");
MODULE_LICENSE("GPL");
