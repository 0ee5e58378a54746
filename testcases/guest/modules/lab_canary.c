// SPDX-License-Identifier: GPL-2.0-only
/*
 * Deliberate bugs, to see whether the sanitizers of this kernel see bugs.
 *
 * /sys/kernel/debug/lab_canary/use_after_free: a write reads freed memory;
 * KASAN reports "use-after-free in lab_canary_use_after_free".
 * /sys/kernel/debug/lab_canary/leak: a write loses LAB_CANARY_OBJECTS objects;
 * kmemleak reports them with lab_canary_leak in their backtraces.
 * /sys/kernel/debug/lab_canary/lock_order: a write takes two locks in one order and
 * then in the other; lockdep reports "possible circular locking dependency".
 * /sys/kernel/debug/lab_canary/lock_up: a write never returns; it keeps its processor,
 * with interrupts off. The watchdogs report that as long as another processor lives.
 */
#include <linux/compiler.h>
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/irqflags.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>

#define LAB_CANARY_SIZE		256
#define LAB_CANARY_OFFSET	64
#define LAB_CANARY_OBJECTS	8

static struct dentry *lab_canary_dir;

/* Not static: the compiler may neither inline nor rename them, for reports name them. */
int lab_canary_use_after_free(void);
int lab_canary_leak(void);
int lab_canary_lock_order(void);

noinline int lab_canary_use_after_free(void)
{
	u8 *object = kmalloc(LAB_CANARY_SIZE, GFP_KERNEL);
	u8 *stale = object;

	if (!object)
		return -ENOMEM;
	memset(object, 0x5a, LAB_CANARY_SIZE);
	OPTIMIZER_HIDE_VAR(stale);	/* gcc must not know that it is freed memory */
	kfree(object);
	return READ_ONCE(stale[LAB_CANARY_OFFSET]) & 0;
}

noinline int lab_canary_leak(void)
{
	int i;

	for (i = 0; i < LAB_CANARY_OBJECTS; i++) {
		u8 *object = kmalloc(LAB_CANARY_SIZE, GFP_KERNEL);

		if (!object)
			return -ENOMEM;
		memset(object, 0x5a, LAB_CANARY_SIZE);
		OPTIMIZER_HIDE_VAR(object);	/* else the allocation could be left out */
	}
	return 0;
}

static DEFINE_MUTEX(lab_canary_first);
static DEFINE_MUTEX(lab_canary_second);

noinline int lab_canary_lock_order(void)
{
	mutex_lock(&lab_canary_first);
	mutex_lock(&lab_canary_second);
	mutex_unlock(&lab_canary_second);
	mutex_unlock(&lab_canary_first);

	mutex_lock(&lab_canary_second);
	mutex_lock(&lab_canary_first);
	mutex_unlock(&lab_canary_first);
	mutex_unlock(&lab_canary_second);
	return 0;
}

/* kmemleak also scans stacks: leave no pointer behind where the calls above had theirs. */
static noinline void lab_canary_scrub_stack(void)
{
	u8 room[512];

	memset(room, 0, sizeof(room));
	barrier_data(room);
}

static ssize_t lab_canary_use_after_free_write(struct file *file, const char __user *buffer,
					       size_t length, loff_t *offset)
{
	int ret = lab_canary_use_after_free();

	return ret ? ret : length;
}

static ssize_t lab_canary_leak_write(struct file *file, const char __user *buffer,
				     size_t length, loff_t *offset)
{
	int ret = lab_canary_leak();

	lab_canary_scrub_stack();
	return ret ? ret : length;
}

static ssize_t lab_canary_lock_order_write(struct file *file, const char __user *buffer,
					   size_t length, loff_t *offset)
{
	int ret = lab_canary_lock_order();

	return ret ? ret : length;
}

static ssize_t lab_canary_lock_up_write(struct file *file, const char __user *buffer,
					size_t length, loff_t *offset)
{
	local_irq_disable();
	while (READ_ONCE(lab_canary_dir))
		cpu_relax();
	return length;
}

static const struct file_operations lab_canary_use_after_free_fops = {
	.owner	= THIS_MODULE,
	.open	= simple_open,
	.write	= lab_canary_use_after_free_write,
};

static const struct file_operations lab_canary_leak_fops = {
	.owner	= THIS_MODULE,
	.open	= simple_open,
	.write	= lab_canary_leak_write,
};

static const struct file_operations lab_canary_lock_order_fops = {
	.owner	= THIS_MODULE,
	.open	= simple_open,
	.write	= lab_canary_lock_order_write,
};

static const struct file_operations lab_canary_lock_up_fops = {
	.owner	= THIS_MODULE,
	.open	= simple_open,
	.write	= lab_canary_lock_up_write,
};

static int __init lab_canary_init(void)
{
	lab_canary_dir = debugfs_create_dir("lab_canary", NULL);
	if (IS_ERR(lab_canary_dir))
		return PTR_ERR(lab_canary_dir);
	debugfs_create_file("use_after_free", 0200, lab_canary_dir, NULL,
			    &lab_canary_use_after_free_fops);
	debugfs_create_file("leak", 0200, lab_canary_dir, NULL, &lab_canary_leak_fops);
	debugfs_create_file("lock_order", 0200, lab_canary_dir, NULL,
			    &lab_canary_lock_order_fops);
	debugfs_create_file("lock_up", 0200, lab_canary_dir, NULL, &lab_canary_lock_up_fops);
	return 0;
}

static void __exit lab_canary_exit(void)
{
	debugfs_remove(lab_canary_dir);
}

module_init(lab_canary_init);
module_exit(lab_canary_exit);
MODULE_DESCRIPTION("Deliberate bugs, to prove that the sanitizers work");
MODULE_LICENSE("GPL");
