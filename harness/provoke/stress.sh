# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=dash disable=SC2154
#
# What the steps of a stress run do in a guest (busybox sh). harness/provoke/stress.py puts before it waiting.sh,
# functions.sh, and
#   points, images, domains    where to mount; the images as NAME=KIBIBYTES; the domains that are made first
#   each       seconds that a step's background work may take, until it is killed
#   settling   seconds within which a task must go on that nothing holds back any more
#   dying      seconds within which a killed process must end
#   coming     seconds that the last steps get to have an effect
# and behind it a call of make_images; or of make_volumes, the steps, and finish. Of what the latter print, lines that
# begin with step, refused, left, stuck and did count.

pid=/run/stress.pid number=0 control=/run/none begun=
delays=/sys/kernel/debug/lab_delay trap=/cache/cache/trap reads=0

# ---- processes -----------------------------------------------------------------------------------------------------

later() {
    timeout -s KILL "$each" "$@" >/dev/null 2>&1 </dev/null &
    begun="$begun $!"
}
# A zombie is not alive.
alive() { grep -qs '^State:.[^Z]' "/proc/$1/status"; }
all_gone() { for one; do ! alive "$one" || return; done; }
kill_all() {
    [ $# = 0 ] || kill -KILL "$@"
    within "$dying" all_gone "$@"
}
# A process, and the innermost function of the modules under test that it is in.
named() {
    ours='_*\(cachefiles\|fscache\|netfs\|z*_*erofs\)[a-z0-9_]*'
    inside=$(sed -n "s/^[^]]*\] \($ours\)+.*/\1/p" "$1/stack" | head -n 1)
    echo "$(cat "$1/comm")${inside:+ in $inside}"
}
# Runs a command, and does not wait for one that cannot be killed.
bounded() {
    timeout -s KILL "$each" "$@" 2>/run/said &
    within "$each" all_gone $! && wait $! && return
    ! alive $! || echo "left a hanging task: $(named /proc/$!)"
    return 1
}
# Who works on images, and who of them sleeps where no signal reaches it.
working() { pidof mount umount dd fio; }
nobody_works() { ! working >/dev/null; }
waiting() {
    for one in $(working); do ! grep -qs '^State:.D' "/proc/$one/status" || echo "/proc/$one"; done
}
nobody_waits() { [ -z "$(waiting)" ]; }
in_state_d() { grep -ls '^State:.D' /proc/[0-9]*/status | sed 's|/status||'; }

# ---- the daemon ----------------------------------------------------------------------------------------------------

lives() { [ -s $pid ] && kill -0 "$(cat $pid)" 2>/dev/null; }
gone() { ! lives; }
tell() { later ondemand-daemon --tell $control --timeout 5 "$@"; }
ask() { timeout -s KILL 5 ondemand-daemon --tell $control "$@" >/dev/null 2>&1; }
begin_daemon() {
    ! lives || return 0
    end_parked
    number=$((number + 1))
    control=/run/stress-$number.control
    for image in $images; do set -- "$@" --image "${image%=*}=/tmp/${image%=*}.erofs"; done
    timeout -s KILL 10 ondemand-daemon --dir /cache --log /run/stress-$number.log --control $control \
        --pid-file $pid --wait-device 5 --background "$@" >/dev/null
}
daemon() {
    for rule; do
        shift
        set -- "$@" --on "$rule"
    done
    begin_daemon "$@"
}
# Until it has gone, it would be taken for a daemon that need not be replaced.
kill_daemon() { gone || { kill -KILL "$(cat $pid)" && within "$dying" gone; }; }
end_daemon() {
    end_parked
    kill_readers
    nobody_hangs
    kill_daemon
}
# Whoever waits for a daemon's data can be killed, whatever the daemon does.
# shellcheck disable=SC2046 # a list
kill_readers() {
    set -- $(pidof dd fio)
    kill_all "$@" || for one; do
        ! alive "$one" || echo "left a killed reader: $(named "/proc/$one")"
    done
} 2>/dev/null
# The daemon does all that it has held back, refused to read, or kept open. Every twentieth time is enough for some.
answer_all() {
    lives || return
    answered=$((answered + 1))
    if [ $((answered % 20)) = 1 ]; then
        ask close-fd all
        ask command restore
    fi
    ask resume
    ask release all
}
all_answered() { nobody_waits || { answer_all; nobody_waits; }; }
nobody_hangs() {
    answered=0
    within "$settling" all_answered || for one in $(waiting); do echo "left a hanging task: $(named "$one")"; done
}
# Kept waiting by the daemon, that is: a delay of a function, or a disk, looks the same from outside.
kept_waiting() {
    grep -qs -e '"action":"hold"' -e '"action":"stop"' /run/stress-$number.log && ! nobody_waits
}
kept_or_gone() { kept_waiting || all_gone "${begun##* }"; }

# ---- guessed answers, and another reader of the device ----------------------------------------------------------------

# Number and object of the last request that the daemon got, or nothing.
last_request() {
    sed -n 's/.*"msg_id":\([0-9]*\),"object_id":\([0-9]*\).*/\1 \2/p' /run/stress-$number.log | tail -n 1
}
# The numbers from $1 + $2 to $1 + $3.
near() { seq $(($1 + $2)) $(($1 + $3)); }
# guess FROM TO SIZE: answers by somebody who shares the device with the daemon.
# shellcheck disable=SC2016,SC2046 # another shell's variables; a list
guess() {
    set -- "$@" $(last_request)
    for guessed in $(near "${4:-0}" "$1" "$2"); do
        later sh -c 'said=$(fail-nth 0 borrow $2 /dev/cachefiles , inject , write "copen $1,$3")
            echo $1 $(cut -d " " -f 1 /proc/uptime) $said >>$4' guess \
            "$guessed" "$(cat $pid)" "$3" /run/stress-$number.guesses
    done
}
# complete FROM TO: completes READs for which nothing was written.
# shellcheck disable=SC2046 # a list
complete_reads() {
    set -- "$@" $(last_request)
    for completed in $(near "${3:-0}" "$1" "$2"); do ask cread "${4:-}" "$completed"; done
}
# Another thread of the daemon reads the device, and the memory that it reads into comes late. It uses files that the
# daemon is not told of, and keeps the device open.
readable() { timeout -s KILL 5 ondemand-daemon --tell $control poll 2>/dev/null | grep -q POLLIN; }
parked() { grep -qs parked /run/stress-$number.parked; }
unparked() { grep -qs '"event":"read"' /run/stress-$number.parked; }
# shellcheck disable=SC2010 # one program, not one for each descriptor
anonymous_fds() { ls -l "/proc/$(pidof parked-read | cut -d ' ' -f 1)/fd" 2>/dev/null | grep -c '\[cachefiles\]'; }
# shellcheck disable=SC2012,SC2016 # the same; another shell's variables
park() {
    device=$(ls -l "/proc/$(cat $pid)/fd" | sed -n 's|.* \([0-9]*\) -> /dev/cachefiles$|\1|p')
    within 3 readable || { echo 'nothing to read' >&2; return 1; }
    rm -f /run/stress-$number.parked
    later sh -c 'exec parked-read $1 $2 >$3' park "$(cat $pid)" "$device" /run/stress-$number.parked
    within 3 parked || { echo 'read by somebody else' >&2; return 1; }
    [ "$(anonymous_fds)" = 0 ] || echo 'left an anonymous fd before its OPEN was delivered'
}
# shellcheck disable=SC2046 # a list
unpark() {
    set -- $(pidof parked-read)
    [ $# = 0 ] || { kill -USR1 "$@" && within 3 unparked; }
}
# shellcheck disable=SC2046 # a list
end_parked() { kill_all $(pidof parked-read); }

# ---- images and the cache ------------------------------------------------------------------------------------------

make_images() {
    for point in $points; do mkdir -p "/$point"; done
    for image in $images; do
        erofs_image "/tmp/${image%=*}.erofs" "${image#*=}" "/tmp/${image%=*}" || return
    done
}
# The steps' domains: to make the folders of a volume takes seconds.
# shellcheck disable=SC2046 # a list
make_volumes() {
    begin_daemon
    for domain in $domains; do mount $(mount_options a m0 "$domain") && umount /m0; done
    kill_daemon
} >/dev/null 2>&1
mount_options() { echo "-t erofs -o fsid=$1${3:+,domain_id=$3} none /$2"; }
visit() {
    reads=$((reads + 1))
    later sh -c "mount $(mount_options "$@") && dd if=/$2/data of=/run/read-$reads bs=64k; umount /$2"
}
# To look through the 256 folders of each volume takes seconds, and files are at the same place each time.
cull() {
    [ -s /run/objects ] || find /cache/cache -name 'D*' >/run/objects 2>/dev/null
    head -n 8 /run/objects | while read -r object; do ask cull "${object#/cache/}"; done
}
# A mount point among the cache's folders cannot be culled, and counts as an error of the disk: the cache is dead.
io_error() {
    mkdir -p $trap
    mountpoint -q $trap || mount -t tmpfs none $trap
    tell cull ${trap#/cache/}
}
fill() {
    stat -f -c '%S %a' /cache | {
        read -r size available
        fallocate -l $((size * available * 98 / 100)) /cache/ballast
    }
}
# Who withdraws a cache spins until these have returned (fs/cachefiles/cache.c, cachefiles_withdraw_volumes()). Without
# preemption a sleep there, where the kernel has none, hangs the machine.
delay() {
    case $1 in
    cachefiles_free_volume | fscache_free_volume | __fscache_begin_volume_access) how=spin ;;
    *) how='sleep' ;;
    esac
    echo "function=$1 ms=$2 times=$3 how=$how" >$delays/add
}

# ---- steps ---------------------------------------------------------------------------------------------------------

# shellcheck disable=SC2046,SC2086 # lists
step() {
    echo "step $(cut -d ' ' -f 1 /proc/uptime) $*"
    word=$1
    shift
    case $word in
    daemon) daemon "$@" ;;
    replace)
        end_daemon
        daemon "$@"
        ;;
    classic)
        end_daemon
        begin_daemon --mode classic
        ;;
    look-at)
        take_down
        look_at "$1"
        ;;
    kill) kill_daemon ;;
    kill-readers) kill_readers ;;
    stop) tell exit ;;
    tell) tell "$@" ;;
    stop-reading) ask stop ;;
    park) park ;;
    unpark) unpark ;;
    guess) guess "$@" ;;
    complete) complete_reads "$@" ;;
    visit) visit "$@" ;;
    mount) later mount $(mount_options "$@") ;;
    umount) later umount "/$1" ;;
    read)
        reads=$((reads + 1))
        later dd "if=/$1/data" of=/run/read-$reads bs=64k
        ;;
    fio) later fio --name=r "--filename=/$1/data" --readonly --rw=randread --bs=4k --time_based --runtime=2 ;;
    drop-caches) later sh -c 'echo 3 >/proc/sys/vm/drop_caches' ;;
    cull)
        cull &
        begun="$begun $!"
        ;;
    io-error) io_error ;;
    fill) fill ;;
    empty) rm -f /cache/ballast ;;
    pressure) later stress-ng --vm 1 --vm-bytes 40% --timeout 2 ;;
    no-delays) echo all >$delays/remove ;;
    delay) delay "$@" ;;
    until-done) within "$coming" all_gone $begun || { echo 'something goes on' >&2; false; } ;;
    until-waiting) { within "$coming" kept_or_gone && kept_waiting; } || { echo 'nobody waits' >&2; false; } ;;
    pause) usleep $(($1 * 1000)) ;;
    esac 2>/run/said || echo "refused $word: $(cat /run/said)"
}

# ---- the end -------------------------------------------------------------------------------------------------------

nothing_mounted() {
    for point in $points; do ! mountpoint -q "/$point" || bounded umount "/$point"; done
    ! grep -q ' erofs ' /proc/mounts
}
# Whatever happened before, with a correct daemon each image can be mounted and read.
# shellcheck disable=SC2046 # a list
look_at() {
    { within "$settling" gone && begin_daemon; } || { echo 'left a cache that cannot be used again'; return; }
    for image; do
        if bounded mount $(mount_options "$image" m0 one); then
            bounded cmp -s /m0/data "/tmp/$image/data" || echo 'left an image with wrong data'
            bounded umount /m0 || return
        else
            echo "refused a mount of $image: $(cat /run/said)"
            echo 'left an image that cannot be mounted'
        fi
    done
    kill_daemon
}
# Whether what was read is the beginning of some image's data.
right() {
    for image in $images; do ! cmp -s -n "$(stat -c %s "$1")" "$1" "/tmp/${image%=*}/data" || return 0; done
    return 1
}
# All that was begun ends, and nothing is left of it.
# shellcheck disable=SC2086 # lists
take_down() {
    rm -f /cache/ballast
    # The last steps take effect, too, if they can: else few steps would show less than many.
    within "$coming" nobody_works
    end_daemon
    within "$each" all_gone $begun
    kill_daemon
    within "$settling" nothing_mounted || grep ' erofs ' /proc/mounts | sed 's/^/left a mount: /'
    within "$settling" no_rows $rows || for one in $rows; do
        tail -n +3 "$one" | sed "s|^|left a row of ${one##*/}: |"
    done
    before=" $(in_state_d | tr '\n' ' ')"
    if [ "$before" != ' ' ]; then
        sleep 3
        for one in $(in_state_d); do
            case $before in *" $one "*) echo "stuck $(named "$one")" ;; esac
        done
    fi
    echo all >$delays/remove
    ! mountpoint -q $trap || umount $trap
}
# shellcheck disable=SC2046 # a list
finish() {
    take_down
    look_at $(for image in $images; do echo "${image%=*}"; done)
    for one in /run/read-*; do [ ! -s "$one" ] || right "$one" || echo "left wrong data in $one"; done
    echo "did reads $(find /run -name 'read-*' -size +0 | wc -l)"
    for request in open read close; do
        echo "did requests-$request $(cat /run/stress-*.log 2>/dev/null | grep -c "event.:.$request")"
    done
}
