# SPDX-License-Identifier: GPL-2.0-only
"""Reading injected failures and blocked tasks, from lines that Linux 6.1.192 printed."""

from __future__ import annotations

from harness import klog
from harness.klog.injections import parse_blocked, parse_injections

MODULES = ("netfs", "fscache", "cachefiles", "erofs")


def report(task: str, pid: int, *frames: str, capability: str = "failslab") -> list[str]:
    """The lines of one injection."""
    prefix = f"[   32.732514][  T{pid}] "
    lines = [
        "FAULT_INJECTION: forcing a failure.",
        f"name {capability}, interval 1, probability 0, space 0, times 1",
        f"CPU: 0 PID: {pid} Comm: {task} Tainted: G           O       6.1.192 #1 ",
        "Call Trace:",
        " <TASK>",
        " dump_stack_lvl+0x3a/0x4c",
        " should_fail_ex.cold+0x5/0xa",
        " ? cachefiles_daemon_write+0xab/0x3b0 [cachefiles]",
        " __should_failslab+0xbe/0x110",
        *(f" {frame}" for frame in frames),
        " entry_SYSCALL_64_after_hwframe+0x4b/0xb5",
        "RIP: 0033:0x439750",
        " </TASK>",
    ]
    return [prefix + line for line in lines]


IN_CACHEFILES = report(
    "fail-nth",
    116,
    "__kmem_cache_alloc_node+0x3b/0x210",
    "memdup_user_nul+0x26/0xb0",
    "cachefiles_daemon_write+0xac/0x3b0 [cachefiles]",
    "vfs_write+0x22d/0xdc0",
)
OUTSIDE = report(
    "fail-nth", 120, "kmem_cache_alloc+0x3b/0x210", "getname_flags+0x26/0xb0", "do_sys_openat2+0xdb/0x460"
)


def test_the_point_is_the_innermost_frame_in_the_modules() -> None:
    (injection,) = parse_injections(IN_CACHEFILES)
    assert (injection.capability, injection.pid) == ("failslab", 116)
    point = injection.point(MODULES)
    assert point is not None
    # Neither the guess of the unwinder before it, nor the function that copies on its behalf.
    assert (point.function, point.offset, point.module) == ("cachefiles_daemon_write", 0xAC, "cachefiles")


def test_outside_the_modules_it_is_the_caller_of_the_allocator() -> None:
    (injection,) = parse_injections(OUTSIDE)
    point = injection.point(MODULES)
    assert point is not None
    assert (point.function, point.module) == ("getname_flags", "")


def test_each_injection_has_its_own_stack_also_where_lines_of_others_are_mixed_in() -> None:
    mixed = [line for pair in zip(IN_CACHEFILES, [*OUTSIDE, OUTSIDE[-1]], strict=False) for line in pair]
    first, second = parse_injections([*mixed, IN_CACHEFILES[-2], IN_CACHEFILES[-1]])
    assert {first.pid, second.pid} == {116, 120}
    points = {one.pid: point.function for one in (first, second) if (point := one.point(MODULES))}
    assert points == {116: "cachefiles_daemon_write", 120: "getname_flags"}


def test_an_injection_that_is_cut_off_has_no_point() -> None:
    (injection,) = parse_injections(IN_CACHEFILES[:3])
    assert (injection.pid, injection.frames, injection.point(MODULES)) == (116, (), None)


def test_injections_are_no_findings() -> None:
    assert klog.parse("\n".join([*IN_CACHEFILES, *OUTSIDE]).encode()) == ()


def test_blocked_tasks_are_those_in_uninterruptible_sleep() -> None:
    lines = [
        "[  9.000000][  T113] sysrq: Show Blocked State",
        "[  9.000001][  T113] task:kworker/u4:1    state:D stack:26472 pid:37    ppid:2      flags:0x00004000",
        "[  9.000002][  T113] Workqueue: writeback wb_workfn (flush-254:0)",
        "[  9.000003][  T113] task:mount           state:D stack:0     pid:120   tgid:120   ppid:1      flags:0x0",
        "[  9.000004][  T113] task:sleeper         state:S stack:0     pid:130   ppid:1      flags:0x0",
    ]
    assert parse_blocked(lines) == {37: "kworker/u4:1/37", 120: "mount/120"}
