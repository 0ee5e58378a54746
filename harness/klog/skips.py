# SPDX-License-Identifier: GPL-2.0-only
"""Functions that titles skip: those that notice a bug, and helpers that fail because of a caller's mistake.

Each word is a regular expression that is searched for in the function's name; the groups say why it is
skipped. Titles agree with syzbot's, because these are the functions that syzkaller's public report rules
(pkg/report/linux.go) skip.
"""

from __future__ import annotations


def _patterns(words: str) -> tuple[str, ...]:
    return tuple(words.split())


SANITIZERS = _patterns(
    r"""
    __sanitizer __asan kasan hwasan __msan kmsan kcsan_setup_watchpoint check_memory_region
    check_heap_object check_object read_word_at_a_time (read|write)_once_.*nocheck print_address_description
    print_report hex_dump_to_buffer print_hex_dump print_tainted ^get_taint$
    """
)
TRAPS_AND_PANIC = _patterns(
    r"""
    panic invalid_op report_bug fixup_bug do_error _trap$|do_trap warn_slowpath warn_alloc warn_bogus __warn
    program_check_exception program_check_common assertfail __fortify_report do_(kernel|translation)_fault
    do_mem_abort el1_abort el1h_64_sync(?:_handler)?
    """
)
STACK_WALKING = _patterns(
    r"""
    show_stack dump_stack walk_stack dump_backtrace stack_trace_consume_entry arch_stack_walk
    stack_trace_save
    """
)
ALLOCATORS = _patterns(
    r"""
    alloc_page k?v?(?:m|z|c)alloc krealloc kmem_cache allocate_slab __alloc_frozen_pages_noprof slab_ memdup
    strdup strndup ^kv?free$ kfree_skb ida_free
    """
)
PAGE_CACHE = _patterns(
    r"""
    folio_(?:alloc|unlock) filemap_alloc_folio __filemap_get_folio find_or_create_page do_read_cache_folio
    read_cache_page pagecache_get_page grab_cache_page_write_begin ^(un)?lock_page xas_(?:start|load|find)
    find_lock_entries truncate_inode_pages_range __phys_addr ^mark_buffer_dirty$
    """
)
DEBUG_OBJECTS = _patterns(
    r"""
    debug_object timer_is_static_object work_is_static_object ref_tracker
    """
)
LOCKING = _patterns(
    r"""
    print_usage_bug print_unlock imbalance_bug lockdep lock_acquire lock_release lock_class mark_lock
    (reacquire|mark)_held_locks (trace|lockdep)_(hard|soft)irq bh_enable bh_disable perf_trace raw_spin_rq
    spin_lock spin_trylock spin_unlock read_lock read_trylock write_lock write_trylock read_unlock
    write_unlock ^down$ down_read down_write down_read_trylock down_write_trylock down_trylock up_read
    up_write ^mutex_ ^__mutex_ ^rt_mutex_ owner_on_cpu osq_lock osq_unlock seqprop_assert might_sleep
    __might_resched cleanup_srcu_struct
    """
)
ATOMICS_AND_COUNTERS = _patterns(
    r"""
    atomic(64)?_(dec|inc|read|set|or|xor|and|add|sub|fetch|xchg|cmpxchg|try) (set|clear|change|test)_bit
    ^refcount_ ^kref_
    """
)
STRINGS_AND_COPIES = _patterns(
    r"""
    memcpy memcmp memset memchr memmove strcmp strncmp strcpy strlcpy strncpy strscpy strlen strstr strnstr
    strnlen strchr copy_to_user copy_from_user copy_to_iter copy_from_iter copy_page_to_iter
    copy_page_from_iter copy_folio_to_iter ^copyin$ ^copyout$ put_user get_user might_fault
    extract_(user|iter)_to_sg ^crc\d+ crc_itu_t
    """
)
DATA_STRUCTURES = _patterns(
    r"""
    list_add list_del list_replace list_move list_splice ^rb_ ^__rb_ ^klist_ rhashtable_lookup
    """
)
PRINTING = _patterns(
    r"""
    string pointer snprintf scnprintf kasprintf kvasprintf printk va_format dev_info dev_notice dev_warn
    dev_err dev_alert dev_crit dev_emerg
    """
)
TIMERS_AND_WORK = _patterns(
    r"""
    del_timer lock_timer_base __timer_delete_sync sk_stop_timer_sync __mod_timer flush_work
    __cancel_work_timer cancel_work_sync try_to_grab_pending flush_workqueue drain_workqueue
    destroy_workqueue queue_work insert_work __queue_delayed_work queue_delayed_work_on finish_wait
    kthread_stop __wake_up ^complete$ wait_for_completion
    """
)
DEVICE_MODEL = _patterns(
    r"""
    kobject_ add_uevent_var get_device_parent device_add device_del device_unregister device_destroy
    device_release devres_release_all hwrng_unregister i2c_del_adapter __unregister_client
    device_for_each_child rollback_registered unregister_netdev sysfs_remove device_remove_file
    tty_unregister_device ^put_device$
    """
)
USB_CORE = _patterns(
    r"""
    dummy_urb_enqueue usb_kill_urb usb_kill_anchored_urbs usb_control_msg usb_hcd_submit_urb usb_submit_urb
    """
)
PORT_IO = _patterns(
    r"""
    readb$ readw$ readl$ readq$ writeb$ writew$ writel$ writeq$ logic_in logic_out
    """
)
INODES_AND_DENTRIES = _patterns(
    r"""
    ^iput$ ^iput_final$ ^ihold$ drop_nlink fast_dput dput
    """
)
RETPOLINES = _patterns(
    r"""
    _indirect_thunk_
    """
)

#: Skipped in every report.
ALWAYS: tuple[str, ...] = (
    *SANITIZERS,
    *TRAPS_AND_PANIC,
    *STACK_WALKING,
    *ALLOCATORS,
    *PAGE_CACHE,
    *DEBUG_OBJECTS,
    *LOCKING,
    *ATOMICS_AND_COUNTERS,
    *STRINGS_AND_COPIES,
    *DATA_STRUCTURES,
    *PRINTING,
    *TIMERS_AND_WORK,
    *DEVICE_MODEL,
    *USB_CORE,
    *PORT_IO,
    *INODES_AND_DENTRIES,
    *RETPOLINES,
)

#: Skipped in leaks as well: who allocates on behalf of somebody else (mm/, lib/).
LEAK_ALLOCATORS = _patterns(
    r"""
    kmemleak mmap kmem slab alloc create_object idr_get list_lru_init kasprintf kvasprintf pcpu_create
    strdup strndup memdup
    """
)

#: A hung task waits in these; the guilty function is the one that called them.
WAITING = _patterns(
    r"""
    sched _lock _slowlock down rwsem completion kthread wait synchronize context_switch __switch_to
    cancel_delayed_work rcu_barrier
    """
)

#: A hung task that waits for one of these only suffers from another bug: such reports share a title.
HANG_BUCKETS: tuple[tuple[str, str], ...] = (
    ("rtnl_lock", ""),
    ("synchronize_rcu", "synchronize_rcu"),
    ("synchronize_srcu", "synchronize_rcu"),
    ("synchronize_net", "synchronize_rcu"),
    ("synchronize_sched", "synchronize_rcu"),
)

_WORK_AND_ENTRIES = _patterns(
    r"""
    process_one_work do_syscall_ do_fast_syscall_ sysenter_dispatch tracesys_phase2 el0_svc_handler
    invoke_syscall ret_fast_syscall netif_receive_skb do_softirq call_timer_fn _run_timers run_timer_softirq
    hrtimer_run run_ksoftirqd smpboot_thread_fn ^kthread$ start_secondary cpu_startup_entry ret_from_fork
    tasklet_action tasklet_hi_action smp_call_function
    """
)
_FILE_OPERATIONS = _patterns(
    r"""
    vfs_write vfs_read vfs_iter_read vfs_iter_write do_iter_read do_iter_write call_read_iter
    call_write_iter new_sync_read new_sync_write vfs_ioctl ksys_ioctl compat_ioctl compat_sys_ioctl
    blkdev_driver_ioctl blkdev_ioctl do_iter_readv_writev ^call_mmap mmap_region do_mmap do_dentry_open
    vfs_open
    """
)
_SOCKETS = _patterns(
    r"""
    ^sock_sendmsg ^sock_recvmsg ^sock_release ^__sock_release ^setsockopt$ kernel_setsockopt
    sock_common_setsockopt ^listen$ kernel_listen sk_common_release ^sock_mmap ^accept$ kernel_accept
    ^sock_do_ioctl ^sock_ioctl ^compat_sock_ioctl ^nfnetlink_rcv_msg ^rtnetlink_rcv_msg ^netlink_dump
    ^(sys_)?(socketpair|connect|ioctl)
    """
)
_FAULTS_AND_RETURNS = _patterns(
    r"""
    __do_fault do_page_fault ^page_fault$ __fput task_work_run exit_to_usermode
    """
)

#: A CPU that loops is interrupted at a random place of the loop, so the guilty function is the one that one of
#: these dispatchers called.
DISPATCHERS: tuple[str, ...] = (*_WORK_AND_ENTRIES, *_FILE_OPERATIONS, *_SOCKETS, *_FAULTS_AND_RETURNS)
