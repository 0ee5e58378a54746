# SPDX-License-Identifier: GPL-2.0-only
"""Does the steps of a stress run in a guest: many things at once, and then everything is taken down.

What a step begins goes on in the background; the next one follows at once, unless a pause says otherwise.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness import request_rules
from harness.guest import Guest
from harness.provoke.cache import mount_scratch
from harness.provoke.fscache_state import WAITING_IN_SHELL
from harness.request_rules import Guess
from harness.stress_steps import DOMAINS, IMAGES, POINTS, Step

#: Kibibytes of the images' files. Their data are asked for once: many images make many requests.
_SIZES = dict(zip(IMAGES, (256, 256, 256, 512, 512, 512, 1024, 1024, 1024, 2048), strict=True))
#: Functions of the subject; the compiler's and the tracer's own are left out, and those that run once. To probe the
#: last one of a module, which is its exit, reads beyond the module's pages (testcases/suspects/last_function.txt).
_FUNCTION = re.compile(
    r"^\S+ [tT] (_*(?:cachefiles|fscache|netfs|ondemand|z?_?erofs)\w*(?<!_init)(?<!_exit))\t\[(\w+)\]$", re.MULTILINE
)
_OF_DAEMON = re.compile(r"-(\d+)\.")
_COUNT = re.compile(r"did \S+ \d+$")
#: Seconds that a step's background work may take in the guest, until it is killed; and all of the steps, before
#: the guest's patience is applied.
_EACH_SECONDS, _ALL_SECONDS = 30, 100.0
#: How long what was held back may take once nothing holds it back; a killed process; and what the last steps began.
_SETTLING_SECONDS, _DYING_SECONDS, _COMING_SECONDS = 20, 5, 10

_FUNCTIONS = """\
pid=/run/stress.pid number=0 control=/run/none
points=@POINTS@ images=@IMAGES@ names=@NAMES@ domains=@DOMAINS@
delays=/sys/kernel/debug/lab_delay trap=/cache/cache/trap reads=0
later() { timeout -s KILL @EACH@ "$@" >/dev/null 2>&1 </dev/null & }
lives() { [ -s $pid ] && kill -0 "$(cat $pid)" 2>/dev/null; }
tell() { later ondemand-daemon --tell $control --timeout 5 "$@"; }
begin_daemon() {
    ! lives || return 0
    number=$((number + 1)) control=/run/stress-$((number + 1)).control
    timeout -s KILL 10 ondemand-daemon --dir /cache --log /run/stress-$number.log --control $control \\
        --pid-file $pid --wait-device 5 --background $images "$@" >/dev/null
}
# The steps' domains: to make the folders of a volume takes seconds.
make_volumes() {
    begin_daemon
    for domain in $domains; do mount $(mount_options a m0 $domain) && umount /m0; done
    kill_daemon
} >/dev/null 2>&1
daemon() {
    rules=
    for rule; do rules="$rules --on $rule"; done
    begin_daemon $rules
}
end_daemon() { kill_readers; nobody_waits_for_nothing; kill_daemon; }
gone() { ! lives; }
# Until it is gone it would pass for one that need not be replaced.
kill_daemon() { gone || { kill -KILL "$(cat $pid)" && within @DYING@ gone; }; }
ask() { timeout -s KILL 5 ondemand-daemon --tell $control "$@" >/dev/null 2>&1; }
# Looking through 256 folders of each volume takes seconds; files are at the same place each time.
cull() {
    [ -s /run/objects ] || find /cache/cache -name 'D*' >/run/objects 2>/dev/null
    for object in $(head -n 8 /run/objects); do ask cull ${object#/cache/}; done
}
# A mount point among the cache's folders cannot be culled, and counts as an error of the disk: the cache is dead.
io_error() { mkdir -p $trap; mountpoint -q $trap || mount -t tmpfs none $trap; tell cull ${trap#/cache/}; }
fill() { set -- $(stat -f -c '%S %a' /cache); fallocate -l $(($1 * $2 / 100 * 98)) /cache/ballast; }
mount_options() { echo "-t erofs -o fsid=$1${3:+,domain_id=$3} none /$2"; }
visit() {
    reads=$((reads + 1))
    later sh -c "mount $(mount_options "$@") && dd if=/$2/data of=/run/read-$reads bs=64k; umount /$2"
}
# Numbers near that of the last request, said by somebody who shares the device with the daemon.
guess() {
    number_of_last=$(sed -n 's/.*"msg_id":\\([0-9]*\\).*/\\1/p' /run/stress-$number.log | tail -n 1)
    guessed=$((${number_of_last:-0} + $1))
    while [ $guessed -le $((${number_of_last:-0} + $2)) ]; do
        later sh -c 'said=$(fail-nth 0 borrow $2 /dev/cachefiles , inject , write "copen $1,$3")
            echo $1 $(cut -d " " -f 1 /proc/uptime) $said >>$4' guess \\
            $guessed "$(cat $pid)" $3 /run/stress-$number.guesses
        guessed=$((guessed + 1))
    done
}
# Who withdraws a cache spins until these are through (fs/cachefiles/cache.c, cachefiles_withdraw_volumes()); without
# preemption a sleep there, where the kernel has none, hangs the machine.
delay() {
    case $1 in
    cachefiles_free_volume | fscache_free_volume | __fscache_begin_volume_access) how=spin ;;
    *) how=sleep ;;
    esac
    echo "function=$1 ms=$2 times=$3 how=$how" >$delays/add
}
step() {
    echo "step $(cut -d ' ' -f 1 /proc/uptime) $*"
    word=$1
    shift
    case $word in
    daemon) daemon "$@" ;;
    replace) end_daemon; daemon "$@" ;;
    classic) end_daemon; begin_daemon --mode classic ;;
    look-at) take_down; look_at $1 ;;
    kill) kill_daemon ;;
    kill-readers) kill_readers ;;
    stop) tell exit ;;
    tell) tell "$@" ;;
    guess) guess "$@" ;;
    visit) visit "$@" ;;
    mount) later mount $(mount_options "$@") ;;
    umount) later umount /$1 ;;
    read) reads=$((reads + 1)); later dd if=/$1/data of=/run/read-$reads bs=64k ;;
    fio) later fio --name=r --filename=/$1/data --readonly --rw=randread --bs=4k --time_based --runtime=2 ;;
    drop-caches) later sh -c 'echo 3 >/proc/sys/vm/drop_caches' ;;
    cull) cull & ;;
    io-error) io_error ;;
    fill) fill ;;
    empty) rm -f /cache/ballast ;;
    pressure) later stress-ng --vm 1 --vm-bytes 40% --timeout 2 ;;
    no-delays) echo all >$delays/remove ;;
    delay) delay "$@" ;;
    until-waiting) within 3 somebody_waits || { echo 'nobody waits' >&2; false; } ;;
    pause) usleep $(($1 * 1000)) ;;
    esac 2>/run/said || echo "refused $word: $(cat /run/said)"
}
nothing_mounted() {
    for point in $points; do umount /$point 2>/dev/null; done
    ! grep -q ' erofs ' /proc/mounts
}
in_state_d() { grep -ls '^State:.D' /proc/[0-9]*/status | sed 's|/status||'; }
alive() { grep -qs '^State:.[^Z]' /proc/$1/status; }
all_gone() { for one; do ! alive $one || return; done; }
# Whoever waits for a daemon's data can be killed, whatever the daemon does. A zombie is gone.
kill_readers() {
    set -- $(pidof dd fio)
    [ $# = 0 ] || kill -KILL "$@"
    within @DYING@ all_gone "$@" || for one; do
        ! alive $one || echo "left a reader that was killed: $(named /proc/$one)"
    done
} 2>/dev/null
# Who works on images and sleeps where no signal reaches it.
waiting() {
    for one in $(pidof mount umount dd fio); do ! grep -qs '^State:.D' /proc/$one/status || echo /proc/$one; done
}
nobody_waits() { [ -z "$(waiting)" ]; }
somebody_waits() { ! nobody_waits; }
# A process, and the innermost function of the modules under test that it is in.
named() {
    ours='_*\\(cachefiles\\|fscache\\|netfs\\|z*_*erofs\\)[a-z0-9_]*'
    inside=$(sed -n "s/^[^]]*\\] \\($ours\\)+.*/\\1/p" $1/stack | head -n 1)
    echo "$(cat $1/comm)${inside:+ in $inside}"
}
# Whatever the daemon has held back, refused to read, or kept open comes now.
oblige() {
    lives || return
    answered=$((answered + 1))
    [ $((answered % 20)) != 1 ] || for words in 'close-fd all' 'command restore'; do ask $words; done
    for words in resume 'release all'; do ask $words; done
}
obliged() { nobody_waits || { oblige; nobody_waits; }; }
# Whatever happened before, with a daemon as it should be each image can be mounted and read.
look_at() {
    begin_daemon || { echo 'left a cache that cannot be used again'; return; }
    for image; do
        if timeout -s KILL @EACH@ mount $(mount_options $image m0 one) 2>/run/said; then
            cmp -s /m0/data /tmp/$image/data || echo 'left an image with wrong data'
            umount /m0
        else
            echo "refused a mount of $image: $(cat /run/said)"
            echo 'left an image that cannot be mounted'
        fi
    done
    kill_daemon
}
# Whether what was read is how some image's data begin.
right() {
    for image in $names; do ! cmp -s -n $(stat -c %s $1) $1 /tmp/$image/data || return 0; done
    return 1
}
nobody_waits_for_nothing() {
    answered=0
    within @SETTLING@ obliged || for one in $(waiting); do echo "left waiting for nothing: $(named $one)"; done
}
nobody_works() { ! pidof mount umount dd fio >/dev/null; }
# All that was begun ends, and nothing is left of it.
take_down() {
    rm -f /cache/ballast
    # The last steps come to something, too, if they can: else few steps would show less than many.
    within @COMING@ nobody_works
    end_daemon
    wait
    kill_daemon
    within @SETTLING@ nothing_mounted || grep ' erofs ' /proc/mounts | sed 's/^/left a mount: /'
    within @SETTLING@ no_rows $rows || for one in $rows; do
        tail -n +3 $one | sed "s|^|left a row of ${one##*/}: |"
    done
    before=$(in_state_d)
    if [ "$before" ]; then
        sleep 3
        for one in $(in_state_d); do
            case " $(echo $before) " in *" $one "*) echo "stuck $(named $one)" ;; esac
        done
    fi
    echo all >$delays/remove
    ! mountpoint -q $trap || umount $trap
}
finish() {
    take_down
    look_at $names
    for one in /run/read-*; do [ ! -s $one ] || right $one || echo "left wrong data in $one"; done
    echo "did reads $(find /run -name 'read-*' -size +0 | wc -l)"
    for request in open read close; do
        echo "did requests-$request $(cat /run/stress-*.log 2>/dev/null | grep -c "event.:.$request")"
    done
}
"""


@dataclass(frozen=True)
class Played:
    """What became of the steps.

    Attributes:
        log: what was begun when, one line each: ``step SECONDS_OF_UPTIME WORDS``; and steps that were refused.
        problems: what was left in the end, one sentence each.
        counts: what the steps came to: reads that got data, requests that daemons got, by their kinds, and guessed
            answers that the kernel took.
        daemons: the daemons' logs, by their numbers from 1 on.
    """

    log: tuple[str, ...]
    problems: tuple[str, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    daemons: Mapping[int, str] = field(default_factory=dict)


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
    guest.run(f"set -e\n{_images()}mkdir -p " + " ".join(f"/{point}" for point in POINTS))
    output = guest.run("sh -s", timeout=_ALL_SECONDS, stdin=script(steps).encode())
    lines = output.splitlines()
    daemons, guesses = _by_daemon(guest, "log"), _by_daemon(guest, "guesses")
    problems = [line for line in lines if line.startswith(("left ", "stuck "))]
    counts = {name: int(count) for _, name, count in (line.split() for line in lines if _COUNT.match(line))}
    for number, log in daemons.items():
        guessed = _guesses(guesses.get(number, ""))
        problems += request_rules.broken(request_rules.records(log), guessed)
        counts["guesses-taken"] = counts.get("guesses-taken", 0) + sum(guess.taken for guess in guessed)
    return Played(
        tuple(line for line in lines if line.startswith(("step ", "refused "))),
        tuple(dict.fromkeys(problems)),
        counts,
        daemons,
    )


def _by_daemon(guest: Guest, ending: str) -> dict[int, str]:
    """What files ``/run/stress-NUMBER.ENDING`` hold, by their numbers."""
    output = guest.run(
        f"for one in /run/stress-*.{ending}; do printf '\\37%s\\n' $one; cat $one; done 2>/dev/null; true"
    )
    parts = (part.partition("\n") for part in output.split("\x1f")[1:])
    return {int(match[1]): text for name, _, text in parts if (match := _OF_DAEMON.search(name))}


def _guesses(text: str) -> list[Guess]:
    """What ``guess`` noted, one a line: a number, when that was, and what became of it, if anything did."""
    noted = (line.split(maxsplit=2) for line in text.splitlines())
    return [
        Guess(int(words[0]), json.loads(words[2])["errno"] == 0, float(words[1]))
        for words in noted
        if len(words) == 3
    ]


def _images() -> str:
    """Makes the images, and keeps their files."""
    return "".join(
        f"mkdir -p /tmp/{name}\n"
        f"dd if=/dev/urandom of=/tmp/{name}/data bs={kibibytes}k count=1 2>/dev/null\n"
        f"mkfs.erofs --quiet /tmp/{name}.erofs /tmp/{name} >/dev/null 2>&1\n"
        for name, kibibytes in _SIZES.items()
    )


def script(steps: Sequence[Step]) -> str:
    """What the guest's shell runs."""
    images = " ".join(f"--image {name}=/tmp/{name}.erofs" for name in IMAGES)
    values = {"POINTS": " ".join(POINTS), "NAMES": " ".join(IMAGES), "IMAGES": images, "DOMAINS": " ".join(DOMAINS)}
    times = {"EACH": _EACH_SECONDS, "SETTLING": _SETTLING_SECONDS, "DYING": _DYING_SECONDS, "COMING": _COMING_SECONDS}
    functions = WAITING_IN_SHELL + _FUNCTIONS
    for name, value in (values | times).items():
        functions = functions.replace(f"@{name}@", shlex.quote(str(value)))
    return functions + "make_volumes\n" + "".join(f"step {shlex.join(step.words)}\n" for step in steps) + "finish\n"
