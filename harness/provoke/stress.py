# SPDX-License-Identifier: GPL-2.0-only
"""Does the steps of a stress run in a guest: many things at once, and then everything is taken down.

What a step begins goes on in the background; the next one follows at once, unless a pause says otherwise.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from harness.guest import Guest
from harness.provoke.cache import erofs_image, mount_scratch
from harness.stress_steps import IMAGES, POINTS, Step

#: Mebibytes of the images' files.
_SIZES = dict(zip(IMAGES, (1, 1, 2, 4), strict=True))
#: Functions of the subject; the compiler's and the tracer's own are left out.
_FUNCTION = re.compile(r"^\S+ [tT] ((?:cachefiles|fscache|netfs|z?_?erofs)\w*)\t\[(\w+)\]$", re.MULTILINE)
#: Seconds that a step's background work may take in the guest, until it is killed; and all of the steps, before
#: the guest's patience is applied.
_EACH_SECONDS, _ALL_SECONDS = 30, 120.0
_SETTLING_SECONDS = 20

_FUNCTIONS = """\
pid=/run/stress.pid number=0 control=/run/none
points=@POINTS@ images=@IMAGES@ delays=/sys/kernel/debug/lab_delay
later() { timeout -s KILL @EACH@ "$@" >/dev/null 2>&1 </dev/null & }
lives() { [ -s $pid ] && kill -0 "$(cat $pid)" 2>/dev/null; }
tell() { later ondemand-daemon --tell $control --timeout 5 "$@"; }
daemon() {
    ! lives || return 0
    number=$((number + 1)) control=/run/stress-$((number + 1)).control
    rules=
    for rule; do rules="$rules --on $rule"; done
    timeout -s KILL 10 ondemand-daemon --dir /cache --log /run/stress-$number.log --control $control \\
        --pid-file $pid --wait-device 5 --background $images $rules >/dev/null
}
kill_daemon() { ! lives || kill -KILL "$(cat $pid)"; }
cull() {
    for object in $(ls -d /cache/cache/I*/@*/D* 2>/dev/null | head -n 5); do tell cull ${object#/cache/}; done
}
fill() { set -- $(stat -f -c '%S %a' /cache); fallocate -l $(($1 * $2 / 100 * 98)) /cache/ballast; }
delay() { echo "function=$1 ms=$2 times=$3 how=sleep" >$delays/add; }
step() {
    echo "step $(cut -d ' ' -f 1 /proc/uptime) $*"
    word=$1
    shift
    case $word in
    daemon) daemon "$@" ;;
    kill) kill_daemon ;;
    stop) tell exit ;;
    tell) tell "$@" ;;
    mount) later mount -t erofs -o fsid=$1${3:+,domain_id=$3} none /$2 ;;
    umount) later umount /$1 ;;
    read) later dd if=/$1/data of=/dev/null bs=64k ;;
    fio) later fio --name=r --filename=/$1/data --readonly --rw=randread --bs=4k --time_based --runtime=2 ;;
    drop-caches) echo 3 >/proc/sys/vm/drop_caches ;;
    cull) cull ;;
    fill) fill ;;
    empty) rm -f /cache/ballast ;;
    pressure) later stress-ng --vm 1 --vm-bytes 40% --timeout 2 ;;
    delay) delay "$@" ;;
    pause) usleep $(($1 * 1000)) ;;
    esac 2>/run/said || echo "refused $word: $(cat /run/said)"
}
within() {
    local end=$(($(date +%s) + $1))
    shift
    until "$@"; do [ $(date +%s) -lt $end ] || return; usleep 50000; done
}
nothing_mounted() {
    for point in $points; do umount /$point 2>/dev/null; done
    ! grep -q ' erofs ' /proc/mounts
}
no_rows() { [ $(cat /proc/fs/fscache/caches /proc/fs/fscache/volumes /proc/fs/fscache/cookies | wc -l) = 6 ]; }
waiting() { grep -l '^State:.D' /proc/[0-9]*/status 2>/dev/null; }
take_down() {
    kill_daemon
    wait
    kill_daemon
    within @SETTLING@ nothing_mounted || grep ' erofs ' /proc/mounts | sed 's/^/left a mount: /'
    within @SETTLING@ no_rows || for one in caches volumes cookies; do
        tail -n +3 /proc/fs/fscache/$one | sed "s/^/left a row of $one: /"
    done
    before=$(waiting)
    if [ "$before" ]; then
        sleep 3
        for one in $(waiting); do
            case $before in *$one*) echo "stuck $(head -n 1 $one | cut -f 2)" ;; esac
        done
    fi
    echo all >$delays/remove
}
"""


@dataclass(frozen=True)
class Played:
    """What became of the steps.

    Attributes:
        log: what was begun when, one line each: ``step SECONDS_OF_UPTIME WORDS``; and steps that were refused.
        problems: what was left in the end, one sentence each.
    """

    log: tuple[str, ...]
    problems: tuple[str, ...]


def functions_under_test(guest: Guest, modules: Sequence[str]) -> tuple[str, ...]:
    """The functions of the modules under test, by the guest's symbol table, in alphabetic order.

    Args:
        guest: with the modules.
        modules: their names.
    """
    symbols = guest.read("/proc/kallsyms")
    return tuple(sorted({match[1] for match in _FUNCTION.finditer(symbols) if match[2] in modules}))


def play(guest: Guest, steps: Sequence[Step]) -> Played:
    """Do steps, and take down all that they began.

    Args:
        guest: with the modules under test, on which nothing else is done.
        steps: what to do.

    Raises:
        CommandOverdue: something does not end.
    """
    guest.load_lab_module("lab_delay")
    mount_scratch(guest)
    for name, mebibytes in _SIZES.items():
        erofs_image(guest, name, mebibytes)
    guest.run("mkdir -p " + " ".join(f"/{point}" for point in POINTS))
    output = guest.run("sh -s", timeout=_ALL_SECONDS, stdin=script(steps).encode())
    lines = output.splitlines()
    log = tuple(line for line in lines if line.startswith(("step ", "refused ")))
    return Played(log, tuple(line for line in lines if line.startswith(("left ", "stuck "))))


def script(steps: Sequence[Step]) -> str:
    """What the guest's shell runs."""
    images = " ".join(f"--image {name}=/tmp/{name}.erofs" for name in IMAGES)
    values = {"POINTS": " ".join(POINTS), "IMAGES": images}
    functions = _FUNCTIONS.replace("@EACH@", str(_EACH_SECONDS)).replace("@SETTLING@", str(_SETTLING_SECONDS))
    for name, value in values.items():
        functions = functions.replace(f"@{name}@", shlex.quote(value))
    return functions + "".join(f"step {shlex.join(step.words)}\n" for step in steps) + "take_down\n"
