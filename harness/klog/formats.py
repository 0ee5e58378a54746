# SPDX-License-Identifier: GPL-2.0-only
"""The table of report formats: how each begins, what its title is, how its guilty function is found.

A row is data only; ``engine`` interprets it. CONTRIBUTING.md says how to add one; each needs a golden
log in ``harness/tests/data/klog``. Titles are those that syzbot gives, by syzkaller's public rules
(pkg/report/linux.go). In a title, ``{func}`` is the guilty function, ``{second}`` that of the second
stack; other names are groups of ``header`` or ``needs``. What a report looks like is in the kernel
files named above its rows.
"""

from __future__ import annotations

import re

from harness.core.model import FindingKind as Kind
from harness.klog.schema import STACK, End, Family, Format, FrameRule, Pick
from harness.klog.skips import LEAK_ALLOCATORS
from harness.klog.stack import CALL_TRACE, FUNC, INSTRUCTION_POINTER, LEAK_BACKTRACE, PC, SOURCE


def _p(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _all(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern) for pattern in patterns)


def _line(kind: Kind, header: str, title: str, *also: str) -> Format:
    """A report that is one line."""
    return Format(kind, _p(header), title, also=also, end=End.HEADER, stackless=True)


AT_FUNC = _p(rf"at: (?:{PC} +)?{FUNC}")
AT_PC_FUNC = _p(rf"{PC} +{FUNC}")
_KMSAN_ORIGIN = _p(r"Local variable .* created at:|Uninit was created at:")

POINTER_THEN_TRACE = (INSTRUCTION_POINTER, CALL_TRACE, STACK)
TRACE = (CALL_TRACE, STACK)


def _after_call_trace(*skip: str, pick: Pick = Pick.FIRST) -> FrameRule:
    return FrameRule(TRACE, skip=skip, pick=pick)


def _at_pointer(*skip: str, pick: Pick = Pick.FIRST) -> FrameRule:
    return FrameRule(POINTER_THEN_TRACE, skip=skip, pick=pick)


#: WARN() traps on newer kernels, so the stack begins at the instruction pointer (powerpc: at the interrupt).
_WARN_POINTER = _p(rf"(?:{INSTRUCTION_POINTER.pattern}|--- interrupt: [0-9]+ at (?P<powerpc>[A-Za-z0-9_]+)[.+])")


def _warned(*skip: str) -> FrameRule:
    return FrameRule((_WARN_POINTER, STACK), otherwise=(TRACE,), skip=skip)


_USB_HELPERS = (
    "usb_submit_urb",
    "usb_start_wait_urb",
    "usb_bulk_msg",
    "usb_interrupt_msg",
    "usb_control_msg",
)

_KASAN_FREE = r"BUG: KASAN: (?:double-free or invalid-free|double-free|invalid-free) in " + FUNC
_KFENCE_IN = r"BUG: KFENCE: [a-z\- ]+ in " + FUNC
_KMSAN_PATH = (STACK, _KMSAN_ORIGIN, STACK)

#: mm/kasan/report.c (``on address``: until 4.11), mm/kmsan/report.c, kernel/kcsan/report.c, mm/kfence/report.c
SANITIZERS = (
    Format(
        Kind.KASAN,
        _p(rf"BUG: KASAN: (?P<bug>[a-z\-]+) in {FUNC}"),
        "KASAN: {bug} {access} in {func}",
        also=("bad-access in {func}",),
        needs=_all(r"(?P<access>Read|Write) (?:of size|at addr) [0-9a-f]+"),
        frame=FrameRule(
            (_p(rf"BUG: KASAN: [a-z\-]+ in {FUNC}"), CALL_TRACE, STACK),
            # the exception path of hardware tags
            skip=("kernel_fault", "tag_check", "mem_abort", "^el1_", "^el1h_"),
        ),
        end=End.RULER,
    ),
    Format(
        Kind.KASAN,
        _p(_KASAN_FREE),
        "KASAN: invalid-free in {func}",
        also=("invalid-free in {func}",),
        frame=FrameRule((_p(_KASAN_FREE), CALL_TRACE, STACK), skip=("slab_", "kfree", "vunmap", "vfree")),
        end=End.RULER,
    ),
    Format(
        Kind.KASAN,
        _p(r"BUG: KASAN: (?P<bug>[a-z\-]+) on address"),
        "KASAN: {bug} {access}",
        needs=_all(r"(?P<access>Read|Write) of size [0-9]+"),
        end=End.RULER,
    ),
    Format(Kind.KASAN, _p(r"BUG: KASAN: (?P<words>.*)"), "KASAN: {words}", end=End.RULER, untrusted=True),
    Format(
        Kind.KMSAN,
        _p(rf"BUG: KMSAN: kernel-usb-infoleak in {FUNC}"),
        "KMSAN: kernel-usb-infoleak in {func}",
        also=("KMSAN origin in {second}",),
        frame=FrameRule(
            _KMSAN_PATH,
            skip=("alloc_skb", *_USB_HELPERS),
        ),
        end=End.RULER,
        stackless=True,
    ),
    Format(
        Kind.KMSAN,
        _p(rf"BUG: KMSAN: (?P<bug>[a-z\-]+) in {FUNC}"),
        "KMSAN: {bug} in {func}",
        also=("bad-access in {func}",),
        frame=FrameRule(
            _KMSAN_PATH,
            # where the use of what others left uninitialized is noticed
            skip=("alloc_skb", "netlink_ack", "netlink_rcv_skb", "_encrypt$", "^(?:crypto|cipher|drbg|rng)_"),
        ),
        end=End.RULER,
        stackless=True,
    ),
    Format(Kind.KCSAN, _p(r"BUG: KCSAN: (?P<words>.*)"), "KCSAN: {words}", end=End.RULER, stackless=True),
    Format(
        Kind.KFENCE,
        _p(rf"BUG: KFENCE: (?P<bug>use-after-free|out-of-bounds) (?P<access>read|write) in {FUNC}"),
        "KFENCE: {bug} {access} in {func}",
        also=("bad-access in {func}",),
        frame=FrameRule((_p(_KFENCE_IN), STACK)),
        end=End.RULER,
        stackless=True,
    ),
    Format(
        Kind.KFENCE,
        _p(rf"BUG: KFENCE: invalid free in {FUNC}"),
        "KFENCE: invalid free in {func}",
        also=("invalid-free in {func}",),
        frame=FrameRule((_p(_KFENCE_IN), STACK)),
        end=End.RULER,
        stackless=True,
    ),
    Format(
        Kind.KFENCE,
        _p(rf"BUG: KFENCE: invalid (?P<access>read|write) in {FUNC}"),
        "KFENCE: invalid {access} in {func}",
        also=("bad-access in {func}",),
        frame=FrameRule((_p(_KFENCE_IN), STACK)),
        end=End.RULER,
        stackless=True,
    ),
    Format(
        Kind.KFENCE,
        _p(rf"BUG: KFENCE: memory corruption in {FUNC}"),
        "KFENCE: memory corruption in {func}",
        frame=FrameRule((_p(_KFENCE_IN), STACK)),
        end=End.RULER,
        stackless=True,
    ),
)

#: arch/x86/mm/fault.c, arch/powerpc/mm/fault.c
PAGE_FAULTS = (
    Format(
        Kind.OOPS,
        _p(
            r"BUG: (?:unable to handle kernel paging request|unable to handle page fault for address"
            r"|Unable to handle kernel data access)"
        ),
        "BUG: unable to handle kernel paging request in {func}",
        also=("bad-access in {func}",),
        frame=_at_pointer(),
    ),
    Format(
        Kind.OOPS,
        _p(r"BUG: (?:unable to handle kernel NULL pointer dereference|[kK]ernel NULL pointer dereference)"),
        "BUG: unable to handle kernel NULL pointer dereference in {func}",
        also=("bad-access in {func}",),
        frame=_at_pointer(),
    ),
    # Old kernels print the header in two parts, and the second one may get lost.
    Format(Kind.OOPS, _p(r"BUG: [uU]nable to handle kernel"), "BUG: unable to handle kernel", untrusted=True),
)

_HELD_LOCK_LINES = _all(r"leaving the kernel with locks still held", rf"at: (?:{PC} +)?{FUNC}")

#: kernel/locking/{spinlock_debug,lockdep}.c (where it says BUG: here, Linux 4.13 and later say WARNING:),
#: kernel/watchdog.c, kernel/sched/core.c, kernel/workqueue.c
SCHEDULING_AND_LOCKS = (
    Format(
        Kind.LOCKDEP,
        _p(
            r"BUG: (?P<lock>spinlock|rwlock) "
            r"(?P<bug>lockup suspected|already unlocked|recursion|cpu recursion|bad magic"
            r"|wrong owner|wrong CPU|trylock failure on UP)"
        ),
        "BUG: {lock} {bug} in {func}",
        frame=_after_call_trace("spin_", "_lock", "_unlock"),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKUP,
        _p(r"BUG: soft lockup"),
        "BUG: soft lockup in {func}",
        also=("stall in {func}",),
        frame=_at_pointer(pick=Pick.LOOPING),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"BUG: .*still has locks held!"),
        "BUG: still has locks held in {func}",
        needs=(AT_PC_FUNC,),
        end=End.NOTHING,
    ),
    Format(
        Kind.ATOMIC_SLEEP,
        _p(r"BUG: scheduling while atomic"),
        "BUG: scheduling while atomic in {func}",
        frame=_after_call_trace("schedule"),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"BUG: lock held when returning to user space"),
        "BUG: lock held when returning to user space in {func}",
        needs=_HELD_LOCK_LINES,
        end=End.NOTHING,
        stackless=True,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"BUG: bad unlock balance detected!"),
        "BUG: bad unlock balance in {func}",
        frame=FrameRule((AT_PC_FUNC, CALL_TRACE, STACK)),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"BUG: held lock freed!"),
        "BUG: held lock freed in {func}",
        needs=(AT_PC_FUNC,),
        end=End.NOTHING,
    ),
    Format(Kind.LOCKUP, _p(r"BUG: workqueue lockup"), "BUG: workqueue lockup", end=End.NOTHING, stackless=True),
    Format(
        Kind.ATOMIC_SLEEP,
        _p(r"BUG: sleeping function called from invalid context at "),
        "BUG: sleeping function called from invalid context in {func}",
        frame=_after_call_trace(),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"BUG: using (?P<what>[a-z_]+)\(\) in preemptible"),
        "BUG: using {what}() in preemptible code in {func}",
        frame=_after_call_trace("dump_stack", "preemption", "preempt", "debug_", "processor_id", "this_cpu"),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"BUG: workqueue leaked lock or atomic"),
        "BUG: workqueue leaked lock or atomic in {func}",
        needs=_all(r"last function: (?P<func>[a-zA-Z0-9_]+)$"),
        end=End.NOTHING,
        stackless=True,
    ),
    # syzbot gives it the title of lockdep's warnings about itself
    Format(
        Kind.LOCKDEP,
        _p(r"BUG: Invalid wait context"),
        "WARNING: locking bug in {func}",
        frame=_after_call_trace("lock_sock", "release_sock"),
        end=End.NOTHING,
    ),
)

#: mm/memory.c, mm/page_alloc.c, kernel/fork.c (``nr_ptes``, ``nr_pmds``: until 4.14), fs/dcache.c,
#: mm/kmemleak.c, arch/x86/kernel/traps.c
MEMORY_AND_FILES = (
    _line(Kind.BUG, r"BUG: Bad rss-counter state", "BUG: Bad rss-counter state"),
    _line(Kind.BUG, r"BUG: non-zero nr_ptes on freeing mm", "BUG: non-zero nr_ptes on freeing mm"),
    _line(Kind.BUG, r"BUG: non-zero nr_pmds on freeing mm", "BUG: non-zero nr_pmds on freeing mm"),
    Format(
        Kind.BUG,
        _p(r"BUG: Dentry .* still in use \([0-9]+\) \[(?P<how>unmount) of (?P<where>[^\]]+)\]"),
        "BUG: Dentry still in use in {how}",
        also=("BUG: Dentry still in use [{how} of {where}]",),
    ),
    Format(
        Kind.BUG,
        _p(r"BUG: Bad page (?P<what>state|cache)"),
        "BUG: Bad page {what} in {func}",
        # The function that allocated the page says more than the one that noticed.
        frame=FrameRule(
            (_p(r"page last allocated"), STACK),
            skip=(
                "(free|put|get|update|release)_page", "free_unref", "^_*folio", "truncate_inode_pages",
                "page_frag_free",
                "alloc", "vmap", "page_owner",
            ),
        ),
        end=End.NOTHING,
    ),
    Format(Kind.BUG, _p(r"BUG: Bad page map"), "BUG: Bad page map", end=End.NOTHING),
    Format(
        Kind.MEMORY_LEAK,
        _p(r"BUG: memory leak"),
        "memory leak in {func}",
        frame=FrameRule((LEAK_BACKTRACE, STACK), skip=LEAK_ALLOCATORS),
        end=End.NOTHING,
    ),
    Format(
        Kind.OOPS,
        _p(r"BUG: .*stack guard page was hit at"),
        "BUG: stack guard page was hit in {func}",
        also=("stack-overflow in {func}",),
        frame=_at_pointer(pick=Pick.LOOPING),
    ),
)  # fmt: skip

BUG_NOISE = _all(
    "ODEBUG:",  # lib/debugobjects.c, debug_objects_oom()
    "Boot_DEBUG:", "xlog_status:", "DEBUG:",  # Android
    "BUG: no syscalls can create resource",  # syzkaller
)  # fmt: skip

#: kernel/panic.c, __warn(); all rows but the last are about code that checks what its caller does
WARNINGS_ELSEWHERE = (
    Format(
        Kind.WARNING,
        _p(r"WARNING: .*lib/debugobjects\.c.* (?:debug_print|debug_check|at)"),
        "WARNING: ODEBUG bug in {func}",
        frame=_warned(
            "debug_",
            "rcu",
            "hrtimer_",
            "timer_",
            "work_",
            "percpu_",
            "vunmap",
            "vfree",
            "__free_",
            "debug_check",
            "kobject_",
        ),
    ),
    Format(
        Kind.WARNING,
        _p(r"WARNING: .*mm/usercopy\.c.* (?:usercopy_warn|at)"),
        "WARNING: bad usercopy in {func}",
        frame=_warned("usercopy", "__check"),
    ),
    Format(
        Kind.WARNING,
        _p(r"WARNING: .*lib/kobject\.c.* (?:kobject_|at)"),
        "WARNING: kobject bug in {func}",
        frame=_warned("kobject_"),
    ),
    Format(
        Kind.WARNING,
        _p(r"WARNING: .*fs/proc/generic\.c.* (?:proc_register|at)"),
        "WARNING: proc registration bug in {func}",
        frame=_warned("proc_"),
    ),
    Format(
        Kind.REFCOUNT,
        _p(r"WARNING: .*lib/refcount\.c.* (?:refcount_|at)"),
        "WARNING: refcount bug in {func}",
        frame=_warned("refcount", "kobject_"),
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"WARNING: .*kernel/locking/lockdep\.c.*lock_"),
        "WARNING: locking bug in {func}",
        frame=_warned("lock_sock", "release_sock"),
    ),
    Format(
        Kind.WARNING,
        _p(r"WARNING: .*mm/.*\.c.* k?.?malloc"),
        "WARNING: kmalloc bug in {func}",
        frame=_warned("kmalloc", "krealloc", "slab", "kmem"),
    ),
    Format(
        Kind.WARNING,
        _p(r"WARNING: .*mm/vmalloc.c.*__vmalloc_node"),
        "WARNING: zero-size vmalloc in {func}",
        frame=_warned(),
    ),
    Format(
        Kind.WARNING,
        _p(r"WARNING: .* usb_submit_urb"),
        "WARNING in {func}/usb_submit_urb",
        frame=_warned(*_USB_HELPERS),
    ),
    Format(
        Kind.LIST_CORRUPTION,
        _p(rf"WARNING: .* at lib/list_debug\.c:[0-9]+ {FUNC}"),
        "WARNING in {func}",
        frame=_warned(),
    ),
    Format(
        Kind.WARNING,
        _p(
            rf"WARNING: (?:{SOURCE} at 0x\d+, CPU#\d+|.* at {SOURCE.replace('source', 'where')} {FUNC}"
            rf"|{SOURCE.replace('source', 'place')} at {FUNC.replace('func', 'newer')}"
            rf"|\[.*\] {SOURCE.replace('source', 'spot')} at {FUNC.replace('func', 'newest')})"
        ),
        "WARNING in {func}",
        frame=_warned(),
    ),
)

#: kernel/locking/lockdep.c, since 4.13; before, it says INFO: or BUG:
LOCKDEP_WARNINGS = (
    Format(
        Kind.LOCKDEP,
        _p(r"WARNING: .*still has locks held!"),
        "WARNING: still has locks held in {func}",
        needs=_all(rf"at: {FUNC}"),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"WARNING: Nested lock was not taken"),
        "WARNING: nested lock was not taken in {func}",
        frame=_warned(),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"WARNING: lock held when returning to user space"),
        "WARNING: lock held when returning to user space in {func}",
        needs=_HELD_LOCK_LINES,
        end=End.NOTHING,
        stackless=True,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"WARNING: possible circular locking dependency detected"),
        "possible deadlock in {func}",
        needs=_all("is trying to acquire lock"),
        frame=FrameRule(
            (AT_FUNC, AT_FUNC, STACK),
            # they hold the locks of work items
            skip=("process_one_work", "flush_workqueue", "drain_workqueue", "destroy_workqueue"),
        ),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"WARNING: possible irq lock inversion dependency detected"),
        "possible deadlock in {func}",
        needs=(_p("just changed the state of lock"), AT_FUNC),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"WARNING: .*-safe -> .*-unsafe lock order detected"),
        "possible deadlock in {func}",
        frame=FrameRule((_p(r"which became (?:.*) at:"), STACK)),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"WARNING: possible recursive locking detected"),
        "possible deadlock in {func}",
        needs=(_p("is trying to acquire lock"), AT_FUNC),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"WARNING: inconsistent lock state"),
        "inconsistent lock state in {func}",
        needs=(_p("takes"), AT_FUNC),
        frame=_after_call_trace(),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"WARNING: suspicious RCU usage"),
        "WARNING: suspicious RCU usage in {func}",
        needs=_all(SOURCE),
        frame=_after_call_trace("rcu", "kmem", "slab"),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"WARNING: bad unlock balance detected!"),
        "WARNING: bad unlock balance in {func}",
        frame=FrameRule((AT_PC_FUNC, CALL_TRACE, STACK)),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"WARNING: held lock freed!"),
        "WARNING: held lock freed in {func}",
        needs=_all(rf"at:(?: {PC})? +{FUNC}"),
        end=End.NOTHING,
    ),
)

#: arch/x86/kernel/unwind_frame.c
UNWINDER_WARNINGS = (
    _line(
        Kind.WARNING,
        r"WARNING: kernel stack regs at [0-9a-f]+ in [^ ]* has bad '(?P<register>[^']+)' value",
        "WARNING: kernel stack regs has bad '{register}' value",
    ),
    _line(
        Kind.WARNING,
        r"WARNING: kernel stack frame pointer at [0-9a-f]+ in [^ ]* has bad value",
        "WARNING: kernel stack frame pointer has bad value",
    ),
    _line(
        Kind.WARNING,
        r"WARNING: kernel stack (?:regs .* has bad 'bp'|frame pointer .* has bad) value",
        "WARNING: kernel stack regs has bad value",
    ),
    Format(Kind.WARNING, _p(r"WARNING:\s*$"), "WARNING: corrupted", end=End.NOTHING, untrusted=True),
)

WARNING_NOISE = _all(
    r"WARNING: /etc/ssh/moduli does not exist, using fixed modulus",
    r"WARNING: workqueue cpumask: online intersect > possible intersect",
    r"WARNING: [Tt]he mand mount option",
    r"WARNING: Unsupported flag value\(s\) of 0x%x in DT_FLAGS_1",
    r"WARNING: Unprivileged eBPF is enabled with eIBRS",
    r"WARNING: fbcon: Driver '.*' missed to adjust virtual screen size",
    r"WARNING: See https.* for mitigation options\.",
    r"WARNING: kernel not compiled with CPU_SRSO",
    r"EXT4-[Ff][Ss](?: \(.*\))?:",
    r"(?i)warning: .* uses (?:deprecated v2 capabilities|wireless extensions)",
    r"XFS \(\w+\): WARNING",
)

#: kernel/rcu/tree_stall.h, kernel/hung_task.c (``can't die``: linux-next only), kernel/locking/lockdep.c
INFORMATION = (
    Format(
        Kind.LOCKDEP,
        _p(r"INFO: possible circular locking dependency detected \]"),
        "possible deadlock in {func}",
        needs=(_p("is trying to acquire lock"), _p(rf"at: {PC} +{FUNC}")),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"INFO: possible irq lock inversion dependency detected \]"),
        "possible deadlock in {func}",
        needs=(_p("just changed the state of lock"), _p(rf"at: {PC} +{FUNC}")),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"INFO: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected \]"),
        "possible deadlock in {func}",
        needs=(_p("is trying to acquire"), _p(rf"at: {PC} +{FUNC}")),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"INFO: possible recursive locking detected \]"),
        "possible deadlock in {func}",
        needs=(_p("is trying to acquire lock"), _p(rf"at: {PC} +{FUNC}")),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"INFO: inconsistent lock state \]"),
        "inconsistent lock state in {func}",
        needs=(_p("takes"), _p(rf"at: {PC} +{FUNC}")),
        end=End.NOTHING,
    ),
    Format(
        Kind.STALL,
        _p(r"INFO: rcu_(?:preempt|sched|bh|tasks\w*) (?:self-)?detected(?: expedited)? stall"),
        "INFO: rcu detected stall in {func}",
        also=("stall in {func}",),
        # What the timer interrupted is what loops.
        frame=FrameRule(
            (_p("apic_timer_interrupt"), INSTRUCTION_POINTER, STACK),
            otherwise=(
                (_p("(?:apic_timer_interrupt|Exception stack|el1h_64_irq)"), STACK),
                # A CPU of 6.1 that finds itself stalled prints what it interrupted, without the interrupt
                # (kernel/sched/core.c, dump_cpu_task()).
                (_p(r"\(t=\d+ jiffies .* ncpus=\d+\)"), *POINTER_THEN_TRACE),
            ),
            skip=("apic_timer_interrupt", "rcu"),
            pick=Pick.LOOPING,
        ),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"INFO: trying to register non-static key"),
        "INFO: trying to register non-static key in {func}",
        frame=_after_call_trace("stack", "lock", "IRQ"),
        end=End.NOTHING,
    ),
    Format(
        Kind.LOCKDEP,
        _p(r"INFO: suspicious RCU usage"),
        "INFO: suspicious RCU usage in {func}",
        needs=_all(SOURCE),
        frame=_after_call_trace("rcu", "kmem", "slab"),
        end=End.NOTHING,
    ),
    Format(
        Kind.HUNG_TASK,
        _p(r"INFO: task .* blocked (?:in I/O wait )?for more than [0-9]+ seconds"),
        "INFO: task hung in {func}",
        also=("hang in {func}",),
        frame=_after_call_trace(pick=Pick.WAITING),
        end=End.NOTHING,
    ),
    Format(
        Kind.HUNG_TASK,
        _p(r"INFO: task .* can't die for more than .* seconds"),
        "INFO: task can't die in {func}",
        also=("hang in {func}",),
        frame=_after_call_trace("schedule"),
        end=End.NOTHING,
    ),
    # mm/slub.c, print_track(), of old kernels: what is left of a report whose beginning is lost
    Format(
        Kind.OTHER,
        _p(r"INFO: (?P<what>Freed|Allocated) in (?P<words>.*)"),
        "INFO: {what} in {words}",
        end=End.NOTHING,
        untrusted=True,
    ),
    Format(Kind.OTHER, _p(r"INFO:\s*$"), "INFO: corrupted", end=End.NOTHING, untrusted=True),
)

INFO_NOISE = _all(
    r"INFO: lockdep is turned off",
    r"INFO: Stall ended before state dump start",
    r"INFO: NMI handler",
    r"INFO: recovery required on readonly filesystem",
    r"(?:handler|interrupt).*took too long",
    r"INFO: sys_.* is not present in /proc/kallsyms",
    r"INFO: no syscalls can create resource",
    r"rmt_storage:INFO:",
    r"_INFO:",
)

_PANIC = r"Kernel panic - not syncing: "

#: kernel/panic.c and its callers
PANICS = (
    Format(
        Kind.PANIC,
        _p(_PANIC + rf"stack-protector: Kernel stack is corrupted in: {FUNC}"),
        "kernel panic: stack is corrupted in {func}",
        end=End.PANIC,
        stackless=True,
    ),
    Format(
        Kind.PANIC,
        _p(_PANIC + r"stack-protector: Kernel stack is corrupted in: [a-f0-9]+"),
        "kernel panic: stack is corrupted in {func}",
        frame=_after_call_trace("stack_chk"),
        end=End.PANIC,
    ),
    Format(
        Kind.PANIC,
        _p(_PANIC + r"corrupted stack end detected inside scheduler"),
        "kernel panic: corrupted stack end in {func}",
        also=("stack-overflow in {func}",),
        frame=_after_call_trace("schedule", "retint_kernel", pick=Pick.LOOPING),
        end=End.PANIC,
    ),
    Format(
        Kind.PANIC,
        _p(_PANIC + r"kernel stack overflow"),
        "kernel stack overflow in {func}",
        also=("stack-overflow in {func}",),
        frame=_after_call_trace("bad_stack", pick=Pick.LOOPING),
        end=End.PANIC,
    ),
    Format(
        Kind.PANIC,
        _p(_PANIC + r"Attempted to kill init!"),
        "kernel panic: Attempted to kill init!",
        end=End.PANIC,
    ),
    Format(
        Kind.PANIC,
        _p(_PANIC + r"Couldn't open N_TTY ldisc for [^ ]+ --- error -[0-9]+"),
        "kernel panic: Couldn't open N_TTY ldisc",
        end=End.PANIC,
    ),
    # Each of these follows another report; where there is none, it was lost. Newer kernels name who panics.
    Format(
        Kind.PANIC,
        _p(_PANIC + r"(?:[\w -]+: )?(?P<why>Fatal exception|panic_on_warn set|hung_task: blocked tasks)"),
        "kernel panic: {why}",
        end=End.PANIC,
        aftermath=True,
    ),
    Format(Kind.PANIC, _p(_PANIC + r"(?P<words>.*)"), "kernel panic: {words}", end=End.PANIC),
)

#: kernel/bug.c, mm/usercopy.c, lib/list_debug.c
BUGS = (
    Format(
        Kind.BUG,
        _p(r"kernel BUG at mm/usercopy\.c"),
        "BUG: bad usercopy in {func}",
        frame=_after_call_trace("usercopy", "__check"),
    ),
    Format(
        Kind.LIST_CORRUPTION,
        _p(r"kernel BUG at lib/list_debug\.c"),
        "BUG: corrupted list in {func}",
        also=("bad-access in {func}",),
        frame=_after_call_trace(),
    ),
    # helpers for socket buffers check what their callers do
    Format(Kind.BUG, _p(r"kernel BUG at "), "kernel BUG in {func}", frame=_at_pointer("^skb_")),
)


def _oops(header: str, title: str, *also: str, pointer_only: bool = False) -> Format:
    frame = FrameRule((INSTRUCTION_POINTER,)) if pointer_only else _at_pointer()
    return Format(Kind.OOPS, _p(header), title, also=also, frame=frame)


_ACCESS = "bad-access in {func}"

#: A line begins a report where it contains a marker and is no noise; the first family that fits takes it.
FAMILIES: tuple[Family, ...] = (
    Family(
        "BUG:",
        (
            *SANITIZERS,
            *PAGE_FAULTS,
            *SCHEDULING_AND_LOCKS,
            *MEMORY_AND_FILES,
            Format(Kind.BUG, _p(r"BUG:\s*$"), "BUG: corrupted", end=End.NOTHING, untrusted=True),
        ),
        noise=BUG_NOISE,
        damaged=_all(r"BUG: KMSAN:", r"BUG: Dentry .* still in use"),
        kind=Kind.BUG,
    ),
    Family(
        "WARNING:",
        (
            *LOCKDEP_WARNINGS,
            *WARNINGS_ELSEWHERE,
            *UNWINDER_WARNINGS,
        ),
        noise=WARNING_NOISE,
        kind=Kind.WARNING,
    ),
    Family(
        "INFO:",
        INFORMATION,
        noise=INFO_NOISE,
        damaged=_all(
            r"INFO: possible (?:circular|irq lock|recursive) ",
            r"INFO: SOFTIRQ-safe -> ",
            r"INFO: inconsistent lock state",
        ),
    ),
    Family(
        "Unable to handle kernel",
        (
            _oops(
                r"Unable to handle kernel (?P<what>paging request|NULL pointer dereference"
                r"|access to user memory)",
                "BUG: unable to handle kernel {what} in {func}",
                _ACCESS,
            ),
        ),
        kind=Kind.OOPS,
    ),
    Family(
        "general protection fault",
        (_oops(r"general protection fault.*:", "general protection fault in {func}", _ACCESS),),
        noise=_all(r"general protection fault .* error:\d+ in "),
        kind=Kind.OOPS,
    ),
    Family("stack segment: ", (_oops(r"stack segment: ", "stack segment fault in {func}"),), kind=Kind.OOPS),
    Family("Kernel panic", PANICS, noise=_all(r"---\[ end Kernel panic"), kind=Kind.PANIC),
    Family(
        "PANIC: double fault",
        (_oops(r"PANIC: double fault", "PANIC: double fault in {func}", pointer_only=True),),
        kind=Kind.OOPS,
    ),
    Family(
        "rust_kernel: panicked",
        (
            Format(
                Kind.BUG,
                _p(r"rust_kernel: panicked at "),
                "{words} in {func}",
                needs=_all(r"(?P<words>.+)"),
                frame=_after_call_trace("__rustc::rust_begin_unwind"),
            ),
        ),
        kind=Kind.BUG,
    ),
    Family("kernel BUG", BUGS, kind=Kind.BUG),
    Family(
        "Kernel BUG",
        (Format(Kind.BUG, _p(r"Kernel BUG (?P<words>.*)"), "kernel BUG {words}"),),
        kind=Kind.BUG,
    ),
    Family(
        "BUG kmalloc-",
        (
            Format(
                Kind.BUG,
                _p(r"BUG kmalloc-.*: Object already free"),
                "BUG: Object already free",
                end=End.NOTHING,
            ),
        ),
        kind=Kind.BUG,
    ),
    Family(
        "divide error:",
        (_oops(r"divide error: ", "divide error in {func}", pointer_only=True),),
        kind=Kind.OOPS,
    ),
    # Linux 5.8 and 5.9
    Family(
        "divide_error:",
        (_oops(r"divide_error: ", "divide error in {func}", pointer_only=True),),
        kind=Kind.OOPS,
    ),
    Family(
        "invalid opcode:",
        (_oops(r"invalid opcode: ", "invalid opcode in {func}", pointer_only=True),),
        kind=Kind.OOPS,
    ),
    Family("int3: ", (_oops(r"int3: [0-9]+ \[#", "int3 in {func}"),), kind=Kind.OOPS),
    Family(
        "UBSAN:",
        (
            Format(
                Kind.UBSAN,
                _p(r"UBSAN: Undefined behaviour in"),
                "UBSAN: undefined-behaviour in {func}",
                frame=_after_call_trace("ubsan", "overflow"),
                end=End.RULER_OR_TRACE,
            ),
            Format(
                Kind.UBSAN,
                _p(r"UBSAN: array-index-out-of-bounds in"),
                "UBSAN: array-index-out-of-bounds in {func}",
                also=(_ACCESS,),
                frame=_after_call_trace("ubsan", "overflow"),
                end=End.RULER_OR_TRACE,
            ),
            Format(
                Kind.UBSAN,
                _p(r"UBSAN: (?P<bug>.*?) in"),
                "UBSAN: {bug} in {func}",
                frame=_after_call_trace("ubsan", "overflow"),
                end=End.RULER_OR_TRACE,
            ),
        ),
        damaged=_all(r"UBSAN:"),
        kind=Kind.UBSAN,
    ),
    Family(
        "Booting the kernel.",
        (_line(Kind.BOOT, r"^Booting the kernel", "unexpected kernel reboot"),),
        noise=_all(r"Parsing ELF|Decompressing Linux|Unknown parameter '"),
        kind=Kind.BOOT,
    ),
    Family(
        "unregister_netdevice: waiting for",
        (
            _line(
                Kind.OTHER,
                r"unregister_netdevice: waiting for .* to become free",
                "unregister_netdevice: waiting for DEV to become free",
            ),
        ),
    ),
    Family(
        "VFS: Close: file count is 0",
        (_line(Kind.BUG, r"VFS: Close: file count is 0", "VFS: Close: file count is zero (use-after-free)"),),
    ),
    Family(
        "VFS: Busy inodes after unmount",
        (_line(Kind.BUG, r"VFS: Busy inodes after unmount", "VFS: Busy inodes after unmount (use-after-free)"),),
    ),
    Family(
        "Internal error:",
        (_oops(r"Internal error:", "Internal error in {func}", _ACCESS),),
        # fs/cachefiles/namei.c, cachefiles_cull()
        noise=_all(r"CacheFiles: Internal error: -\d+"),
        kind=Kind.OOPS,
    ),
    Family(
        "Unhandled fault:",
        (_oops(r"Unhandled fault:", "Unhandled fault in {func}", _ACCESS),),
        kind=Kind.OOPS,
    ),
    Family("Alignment trap:", (_oops(r"Alignment trap:", "Alignment trap in {func}"),), kind=Kind.OOPS),
    # drivers/trusty/trusty-log.c of Android's kernels prints what the trusted side says
    Family(
        "trusty: panic",
        (
            _line(
                Kind.OTHER,
                r"trusty: panic \(.*?\):(?: DEBUG)? ASSERT FAILED at \(.*?\): (?P<words>.+)",
                "trusty: ASSERT FAILED: {words}",
            ),
            Format(
                Kind.OTHER,
                _p(r"trusty: panic.* ASSERT FAILED.*: *(?P<words>.*)"),
                "trusty: ASSERT FAILED: {words}",
                end=End.HEADER,
                untrusted=True,
            ),
            _line(Kind.OTHER, r"trusty: panic \(.*?\): (?P<words>.+)", "trusty: panic: {words}"),
        ),
    ),
    # What programs print on the same console: Go's runtime (gVisor is a Go program), syzkaller's executor.
    Family(
        "fatal error:",
        (_line(Kind.OTHER, r"fatal error:", "go runtime error"),),
        noise=_all("ALSA", "fatal error: cannot create timer"),
    ),
    Family("SYZFAIL:", (_line(Kind.OTHER, r"SYZFAIL:(?P<words>.*)", "SYZFAIL:{words}"),)),
    Family(
        "SYZFATAL:",
        (_line(Kind.OTHER, r"SYZFATAL:(?P<words>.*)", "SYZFATAL:{words}", "SYZFATAL"),),
    ),
    Family(
        "panic:",
        (
            _line(Kind.OTHER, r"panic: Sentry detected .* stuck task", "panic: Sentry detected stuck tasks"),
            _line(Kind.OTHER, r"panic:(?P<words>.*)", "panic:{words}"),
        ),
        noise=_all("_panic:", "xlog_status:", r"ddb\.onpanic:", "evtlog_status:"),
    ),
    # mm/kmemleak.c, with its verbose option
    Family(
        "unreferenced object 0x",
        (
            Format(
                Kind.MEMORY_LEAK,
                _p(r"unreferenced object 0x"),
                "memory leak in {func}",
                frame=FrameRule((LEAK_BACKTRACE, STACK), skip=LEAK_ALLOCATORS),
                end=End.NOTHING,
            ),
        ),
        kind=Kind.MEMORY_LEAK,
    ),
)

#: Lines that begin a report only where none is in progress.
CONTINUATIONS = _all(
    r"invalid opcode: 0000",
    r"Kernel panic - not syncing",
    r"unregister_netdevice: waiting for",
    r"PANIC: double fault",
    r"Internal error:",
    r"Unhandled fault: alignment exception",
    r"unreferenced object 0x",
)

#: Messages with a stack that are no reports; a report ends before them.
UNRELATED_MESSAGES = (
    "vmalloc: allocation failure:",
    "FAULT_INJECTION: forcing a failure",
    "FAULT_FLAG_ALLOW_RETRY missing",
)

#: Reports with these lines are suppressed: memory ran out, or the test's own programs failed.
SUPPRESSIONS = _all(
    r"panic: failed to start executor binary",
    r"panic: executor failed: pthread_create failed",
    r"panic: failed to create temp dir",
    r"panic: .*cannot allocate memory",
    r"fatal error: (?:runtime: )?(?:out of memory|cannot allocate memory|newosproc)",
    r"fatal error: unexpected signal during runtime execution",
    r"signal SIGBUS: bus error",
    r"SYZFAIL: SIGBUS",
    r"Out of memory: Kill(?:ed)? process .* \((?:syz-executor|syz-fuzzer|sshd)\)",
    r"Killed process .* \((?:syz-executor|syz-fuzzer|sshd)\)",
    r"lowmemorykiller: Killing '(?:syz-executor|syz-fuzzer|sshd)'",
    r"INIT: PANIC: segmentation violation!",
    r"\*\*\* stack smashing detected \*\*\*: terminated",
)

#: The connection to the console was lost.
CONSOLE_LOST = "serialport: VM disconnected."
