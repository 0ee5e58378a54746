# SPDX-License-Identifier: GPL-2.0-only
"""One operation with one allocation made to fail, and what it left behind in the guest.

The program ``fail-nth`` of ``testcases/guest/programs`` does the operation; only its own system calls are hit.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.core.deadline import Deadline
from harness.core.model import Finding
from harness.klog.injections import Injection, parse_blocked, parse_injections
from harness.provoke.cache import erofs_image
from harness.provoke.failing_allocation import ANY_ALLOCATION_MAY_FAIL, FOLDER, MODULE
from harness.provoke.fault import Fault
from harness.provoke.fscache_state import WAITING_IN_SHELL
from harness.provoke.operations import Operation
from harness.vm.guest import CommandOverdue, Guest, GuestStopped

#: How long an iteration may take, before the guest's time factor is applied. One takes a second without KVM.
_SECONDS = 20.0
#: How long what is left to workers may take, in the guest's time.
_SETTLING_SECONDS = 10
_CONSOLE_SECONDS = 10.0
#: A task that is blocked before and after so many of the guest's seconds is stuck.
_BLOCKED_SECONDS = 3
_LOOKED = "lab: looked for blocked tasks"

_SWITCH_ON = f"""\
{ANY_ALLOCATION_MAY_FAIL}\
mkdir -p /m /run/sweep /cache
# No journal: what it allocates is none of the subject's. Room for the 256 folders of many volumes.
mkfs.ext4 -q -F -m 0 -O ^has_journal -N 300000 /dev/disk/scratch
mount /dev/disk/scratch /cache
"""

_TWO_PARTS = """\
folder=$(mktemp -d)
dd if=/dev/urandom of=$folder/data bs=64k count=4 2>/dev/null
mkfs.erofs --quiet --chunksize=4096 --blobdev=/tmp/blob /tmp/c.erofs $folder >/dev/null 2>&1
rm -r $folder
"""

#: What operations are made of; the words are the iteration's name, N and cachefiles' error_injection.
_FUNCTIONS = """\
cache=/cache/shared fresh=/cache/$1
log=/run/sweep/$1.log control=/run/sweep/$1.control daemon=/run/sweep/daemon
mkdir -p $cache $fresh
serve() {
    ondemand-daemon --dir $cache --log $log --control $control --pid-file $daemon --background \\
        --image a=/tmp/a.erofs --image b=/tmp/b.erofs --image c=/tmp/c.erofs --image blob=/tmp/blob "$@"
}
tell() { ondemand-daemon --tell $control "$@" >/dev/null; }
dismiss() { tell exit && rm -f $daemon && within 20 no_rows $rows; }
mount_erofs() { mount -t erofs -o $1 none /m; }
begin_mount() {
    seen=$(cat $log)
    mount_erofs fsid=$1 2>/dev/null &
    mounting=$!
}
# The next event of that kind since begin_mount.
await() {
    number=$(echo "$seen" | grep -c "\\"event\\":\\"$1\\"")
    line=$(ondemand-daemon --await $log $1:$((number + 1)) --timeout 60) || return
    message=$(field msg_id) offset=$(field off) length=$(field len)
}
field() { echo "$line" | sed -n "s/.*\\"$1\\":\\([0-9]*\\).*/\\1/p"; }
end_mount() {
    while kill -0 $mounting 2>/dev/null; do tell release all; usleep 5000; done
    # A mount that failed may be gone before it was released. What is held keeps an anonymous fd, and that the volume.
    tell release all
    wait $mounting && umount /m
}
unused_object() {
    mount_erofs fsid=a && umount /m && within 20 no_rows /proc/fs/fscache/cookies || return
    set -- $cache/cache/I*/@*/D*
    object=$1
}
drop_caches() { echo 3 >/proc/sys/vm/drop_caches; }
# fs/cachefiles/error_inject.c; Documentation/fault-injection/fault-injection.rst
meet() {
    case $1 in
    ENOSPC) echo 1 >/proc/sys/cachefiles/error_injection ;;
    EIO) echo 2 >/proc/sys/cachefiles/error_injection ;;
    full-disk) fallocate -l $(stat -f -c '%a * %S' /cache | xargs expr) /cache/filler ;;
    failing-disk)
        cd /sys/kernel/debug/fail_make_request
        echo 100 >probability; echo -1 >times; echo 0 >verbose; echo 1 >$disk/make-it-fail
        cd / ;;
    esac
} 2>/dev/null
part() {
    case $1 in
    ENOSPC | EIO) echo 0 >/proc/sys/cachefiles/error_injection ;;
    full-disk) rm -f /cache/filler ;;
    failing-disk) echo 0 >$disk/make-it-fail ;;
    esac
} 2>/dev/null
disk=/sys/block/$(basename $(readlink -f /dev/disk/scratch))
reversed() { for one; do echo $one; done | tac; }
load_modules() { modprobe -a $modules; }
unload_modules() {
    [ ! -d /sys/kernel/debug/lab_fail_nth ] || echo >/sys/kernel/debug/lab_fail_nth/function
    for one in $(reversed $modules); do ! [ -d /sys/module/$one ] || rmmod $one || return; done
}
"""

#: Twice the operation, with and without injection; then what it left behind.
_ITERATION = """\
attempt() {
    prepare >$said 2>&1 || { echo "$2-broken the preparation fails: $(cat $said)"; return; }
    [ -z "$worker" ] || echo $1 >$workers/nth
    meet $condition
    result=$(operation $1 2>$said)
    # Where the preparation within fail-nth is what meets the condition, there is nothing to be tested.
    [ -z "$result$condition" ] && result=$(cat $said)
    echo "$2 $result"
    undo >/dev/null 2>&1
    [ -z "$worker" ] || { echo "worker $(cat $workers/state)"; echo 0 >$workers/nth; }
    part $condition
}
again() { condition= name=b attempt 0 again; }
condition=${3-}
said=/run/sweep/$1.said
if setup >$said 2>&1; then
    name=a attempt $2 attempt
    case $condition in
    "" | full-disk) again ;;
    # A cache whose filesystem has failed is dead, and has to be bound anew.
    ENOSPC | EIO)
        umount /m 2>/dev/null
        [ ! -s $daemon ] || dismiss
        if setup >$said 2>&1; then again; else echo "again-broken the set-up fails: $(cat $said)"; fi ;;
    # The filesystem itself may not be usable any more.
    failing-disk) ;;
    esac
else
    echo "broken the set-up fails: $(cat $said)"
fi
umount /m 2>/dev/null
if [ -s "$daemon" ]; then tell exit; rm -f $daemon; fi
files=$(ls $rows 2>/dev/null)
[ -z "$files" ] || within @SETTLING@ no_rows $files || for one in $files; do
    tail -n +3 $one | sed "s|^|left a row of $one: |"
done
umount /m 2>/dev/null
# Where files are is the same each time, and looking through 256 folders takes longer than all the rest.
[ $1 != 0 ] || ls -d $cache/cache/I*/@*/* >/run/sweep/objects 2>/dev/null
rm -rf $fresh $cache/graveyard/* $(cat /run/sweep/objects)
echo w >/proc/sysrq-trigger
echo "@ENDED@" >/dev/kmsg
"""
_ENDED = "lab: iteration {} ended"


@dataclass(frozen=True)
class Attempt:
    """What ``fail-nth`` says.

    Attributes:
        step: the last step that was tested.
        returned: by its system call.
        errno: 0 where all steps succeeded.
        injected: whether a failure was.
        pid: of the process.
    """

    step: str
    returned: int
    errno: int
    injected: bool
    pid: int


@dataclass(frozen=True)
class Seen:
    """What one iteration showed.

    Attributes:
        attempt: the operation with injection; None where it never ended.
        again: the operation without it, afterwards.
        injections: of the operation's own process.
        findings: what the kernel log says.
        problems: everything else that is wrong, a sentence each.
        trouble: why the guest is of no use any more: the iteration never ended, or the kernel died. None where it is.
    """

    attempt: Attempt | None
    again: Attempt | None
    injections: tuple[Injection, ...]
    findings: tuple[Finding, ...]
    problems: tuple[str, ...]
    trouble: CommandOverdue | GuestStopped | None = None


def switch_on(guest: Guest, operation: Operation) -> None:
    """Prepare a guest for a sweep: what operations work with, and what is allowed to fail.

    Args:
        guest: with the modules under test.
        operation: what is going to be swept.
    """
    for name in ("a", "b"):
        erofs_image(guest, name)
    guest.run(f"set -e\n{_TWO_PARTS}{_SWITCH_ON}")
    if operation.worker:
        guest.load_lab_module(MODULE)
        guest.run(f"echo {operation.worker} >{FOLDER}/function")
    guest.kmemleak.clear()


def iterate(guest: Guest, operation: Operation, fault: Fault, modules: Sequence[str]) -> Seen:
    """Do an operation with something failing, and once more without.

    Args:
        guest: that was switched on.
        operation: what to do.
        fault: what fails.
        modules: names of the modules under test, in an order in which they can be loaded.
    """
    name = fault.condition or str(fault.nth)
    words = f"sh -s {name} {fault.nth} {fault.condition}".rstrip()
    console = guest.console
    start, known = console.position(), len(console.findings)
    trouble: CommandOverdue | GuestStopped | None = None
    output = ""
    try:
        output = guest.run(words, timeout=_SECONDS, stdin=script(operation, modules).encode())
    except (CommandOverdue, GuestStopped) as error:
        trouble = error
    else:
        console.wait_for(_ENDED.format(name), Deadline.after(_CONSOLE_SECONDS * guest.time_factor), start)
    console.settle(Deadline.after(_CONSOLE_SECONDS))
    said = _read(output)
    lines = console.lines_from(start)
    problems = said.problems
    if trouble is None and (blocked := parse_blocked(lines)):
        problems += _still_blocked(guest, blocked)
    pids = [said.worker, said.attempt.pid] if said.attempt is not None else []
    injections = tuple(one for one in parse_injections(lines) if not pids or one.pid in pids)
    return Seen(said.attempt, said.again, injections, console.findings[known:], problems, trouble)


def _still_blocked(guest: Guest, blocked: Mapping[int, str]) -> tuple[str, ...]:
    """Which of some tasks wait without an end: a worker may just have been writing to the disk."""
    start = guest.console.position()
    guest.run(f"sleep {_BLOCKED_SECONDS}; echo w >/proc/sysrq-trigger; echo '{_LOOKED}' >/dev/kmsg")
    guest.console.wait_for(_LOOKED, Deadline.after(_CONSOLE_SECONDS * guest.time_factor), start)
    later = parse_blocked(guest.console.lines_from(start))
    return tuple(f"{later[pid]} is stuck in the kernel" for pid in blocked if pid in later)


def unload(guest: Guest, modules: Sequence[str]) -> None:
    """Unmount the cache's filesystem and unload the modules under test: nothing may refer to either any more.

    The kernel reports what still refers to a name or a file of the filesystem then.

    Args:
        guest: in which nothing uses them.
        modules: their names, in an order in which they can be loaded.

    Raises:
        AssertionError: it fails.
    """
    steps = (
        ("unmount", "! mountpoint -q /cache || umount /cache", "the cache's filesystem cannot be unmounted"),
        ("unload", "unload_modules", "the modules cannot be unloaded"),
    )
    for name, command, trouble in steps:
        result = guest.try_run(f"sh -s {name}", stdin=f"{_functions(modules)}{command}\n".encode())
        assert result.status == 0, f"{trouble}: {result.errors.strip()}"


def script(operation: Operation, modules: Sequence[str]) -> str:
    """What the guest's shell runs for one iteration; its words are those of ``_FUNCTIONS``."""
    parts = {
        "setup": operation.setup,
        "prepare": operation.prepare,
        "undo": operation.undo,
        "operation": f"fail-nth {'0' if operation.worker else '$1'} {operation.steps}",
    }
    functions = "".join(f"{name}() {{\n{body}\n}}\n" for name, body in parts.items())
    settling = _ITERATION.replace("@SETTLING@", str(_SETTLING_SECONDS)).replace("@ENDED@", _ENDED.format("$1"))
    worker = f"worker={operation.worker} workers={FOLDER}\n"
    return f"{_functions(modules)}{worker}{functions}{settling}"


def _functions(modules: Sequence[str]) -> str:
    return f"modules={shlex.quote(' '.join(modules))}\n{WAITING_IN_SHELL}{_FUNCTIONS}"


@dataclass(frozen=True)
class _Output:
    """What the script printed.

    Attributes:
        attempt, again: as in :class:`Seen`.
        worker: the worker that the failure happened to, None for none.
        problems: what is wrong, a sentence each.
    """

    attempt: Attempt | None
    again: Attempt | None
    worker: int | None
    problems: tuple[str, ...]


def _read(output: str) -> _Output:
    attempts: dict[str, Attempt] = {}
    workers: list[int | None] = []
    problems: list[str] = []
    for line in output.splitlines():
        word, _, rest = line.partition(" ")
        if word in ("attempt", "again") and rest.startswith("{"):
            attempts[word] = Attempt(**json.loads(rest))
        elif word == "worker" and rest.startswith("{"):
            state = json.loads(rest)
            workers.append(state["pid"] if state["injected"] else None)
        elif line.strip() not in ("attempt", "again"):
            problems.append(_PROBLEMS.get(word, "it cannot be tried: {}").format(rest or line))
    attempt, again = attempts.get("attempt"), attempts.get("again")
    if attempt is not None and workers:
        attempt = replace(attempt, injected=workers[0] is not None)
    if again is not None and again.errno:
        problems.append(f"it does not work any more without injection: {again.step} gives errno {again.errno}")
    return _Output(attempt, again, workers[0] if workers else None, tuple(problems))


_PROBLEMS = {"left": "left behind: {}", "again-broken": "it does not work any more without injection: {}"}
