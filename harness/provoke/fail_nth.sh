# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=dash disable=SC2154,SC2034
#
# One iteration of a sweep in a guest (busybox sh). harness/provoke/fail_nth.py puts before it waiting.sh,
# fault_injection.sh, and
#   modules    the modules under test, in an order in which they can be loaded
#   worker     the function whose allocations fail instead of the operation's own; empty for none
#   settling   seconds for what workers still have to do
#   setup, prepare, undo, operation    what the operation consists of (harness/provoke/operations.py)
# and behind it the call of one of these: switch_on, iteration NAME N [CONDITION], unmount_cache, unload_modules.
# Of what iteration prints, each line that is not empty counts.

cache=/cache/shared daemon=/run/sweep/daemon
workers=/sys/kernel/debug/lab_fail_nth
disk=/sys/block/$(basename "$(readlink -f /dev/disk/scratch)")

switch_on() {
    set -e
    blob_image
    any_allocation_may_fail
    mkdir -p /m /run/sweep /cache
    # No journal: its allocations are not the subject's. Room for the 256 folders of many volumes.
    mkfs.ext4 -q -F -m 0 -O ^has_journal -N 300000 /dev/disk/scratch
    mount /dev/disk/scratch /cache
    [ -z "$worker" ] || echo "$worker" >$workers/function
}
# An image in two files.
blob_image() {
    folder=$(mktemp -d)
    dd if=/dev/urandom of="$folder/data" bs=64k count=4 2>/dev/null
    mkfs.erofs --quiet --chunksize=4096 --blobdev=/tmp/blob /tmp/c.erofs "$folder" >/dev/null 2>&1
    rm -r "$folder"
}

# ---- what operations are made of -----------------------------------------------------------------------------------

serve() {
    ondemand-daemon --dir $cache --log "$log" --control "$control" --pid-file $daemon --background \
        --image a=/tmp/a.erofs --image b=/tmp/b.erofs --image c=/tmp/c.erofs --image blob=/tmp/blob "$@"
}
tell() { ondemand-daemon --tell "$control" "$@" >/dev/null; }
# shellcheck disable=SC2086 # a list
dismiss() { tell exit && rm -f $daemon && within 20 no_rows $rows; }
mount_erofs() { mount -t erofs -o "$1" none /m; }
begin_mount() {
    seen=$(cat "$log")
    mount_erofs "fsid=$1" 2>/dev/null &
    mounting=$!
}
# The next event of that kind since begin_mount.
await() {
    number=$(echo "$seen" | grep -c "\"event\":\"$1\"")
    line=$(ondemand-daemon --await "$log" "$1:$((number + 1))" --timeout 60) || return
    message=$(field msg_id) offset=$(field off) length=$(field len)
}
field() { echo "$line" | sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p"; }
end_mount() {
    while kill -0 "$mounting" 2>/dev/null; do
        tell release all
        usleep 5000
    done
    # A mount that failed may be gone before its request was released. A held request keeps an anonymous fd, and that
    # the volume.
    tell release all
    wait "$mounting" && umount /m
}
unused_object() {
    mount_erofs fsid=a && umount /m && within 20 no_rows /proc/fs/fscache/cookies || return
    set -- $cache/cache/I*/@*/D*
    object=$1
}
drop_caches() { echo 3 >/proc/sys/vm/drop_caches; }
reversed() { printf '%s\n' "$@" | tac; }
# shellcheck disable=SC2086 # a list
load_modules() { modprobe -a $modules; }
# shellcheck disable=SC2086,SC2046 # lists
unload_modules() {
    [ ! -d $workers ] || echo >$workers/function
    for one in $(reversed $modules); do
        [ ! -d "/sys/module/$one" ] || rmmod "$one" || return
    done
}
unmount_cache() { ! mountpoint -q /cache || umount /cache; }

# ---- conditions (harness/provoke/fault.py) -------------------------------------------------------------------------

# The first two: fs/cachefiles/error_inject.c.
begin_condition() {
    case $1 in
    ENOSPC) echo 1 >/proc/sys/cachefiles/error_injection ;;
    EIO) echo 2 >/proc/sys/cachefiles/error_injection ;;
    full-disk) fallocate -l "$(stat -f -c '%a * %S' /cache | xargs expr)" /cache/filler ;;
    failing-disk) (
        cd /sys/kernel/debug/fail_make_request || return
        echo 100 >probability
        echo -1 >./times
        echo 0 >verbose
        echo 1 >"$disk/make-it-fail"
    ) ;;
    esac
} 2>/dev/null
end_condition() {
    case $1 in
    ENOSPC | EIO) echo 0 >/proc/sys/cachefiles/error_injection ;;
    full-disk) rm -f /cache/filler ;;
    failing-disk) echo 0 >"$disk/make-it-fail" ;;
    esac
} 2>/dev/null

# ---- one iteration: the operation twice, with and without injection; then what it left behind ------------------------

# attempt IMAGE N WORD
attempt() {
    name=$1
    prepare >"$said" 2>&1 || {
        echo "$3-broken the preparation fails: $(cat "$said")"
        return
    }
    [ -z "$worker" ] || echo "$2" >$workers/nth
    begin_condition "$condition"
    result=$(operation "$2" 2>"$said")
    # A preparation inside of fail-nth that fails is an error, unless the condition makes it fail.
    [ -n "$result$condition" ] || result=$(cat "$said")
    echo "$3 $result"
    undo >/dev/null 2>&1
    if [ -n "$worker" ]; then
        echo "worker $(cat $workers/state)"
        echo 0 >$workers/nth
    fi
    end_condition "$condition"
}
again() {
    condition=
    attempt b 0 again
}
twice() {
    setup >"$said" 2>&1 || {
        echo "broken the set-up fails: $(cat "$said")"
        return
    }
    attempt a "$1" attempt
    case $condition in
    "" | full-disk) again ;;
    # A cache whose filesystem has failed is dead, and has to be bound again.
    ENOSPC | EIO)
        umount /m 2>/dev/null
        [ ! -s $daemon ] || dismiss
        if setup >"$said" 2>&1; then again; else echo "again-broken the set-up fails: $(cat "$said")"; fi
        ;;
    # The filesystem itself may not be usable any more.
    failing-disk) ;;
    esac
}
# shellcheck disable=SC2086,SC2046 # lists
left_rows() {
    set -- $(ls $rows 2>/dev/null)
    [ $# = 0 ] || within "$settling" no_rows "$@" || for one; do
        tail -n +3 "$one" | sed "s|^|left a row of $one: |"
    done
}
# iteration NAME N [CONDITION]
iteration() {
    fresh=/cache/$1 log=/run/sweep/$1.log control=/run/sweep/$1.control said=/run/sweep/$1.said condition=${3-}
    mkdir -p $cache "$fresh"
    twice "$2"
    umount /m 2>/dev/null
    if [ -s $daemon ]; then
        tell exit
        rm -f $daemon
    fi
    left_rows
    umount /m 2>/dev/null
    # Files are at the same place each time, and to look through 256 folders takes longer than all the rest.
    [ "$1" != 0 ] || ls -d $cache/cache/I*/@*/* >/run/sweep/objects 2>/dev/null
    rm -rf "$fresh" $cache/graveyard/*
    xargs rm -rf </run/sweep/objects
    echo w >/proc/sysrq-trigger
    echo "lab: iteration $1 ended" >/dev/kmsg
}
