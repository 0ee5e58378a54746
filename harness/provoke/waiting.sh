# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=dash
#
# Waiting in a guest (busybox sh), and the files of fscache whose rows go by themselves.

# shellcheck disable=SC2034 # for others
rows="/proc/fs/fscache/caches /proc/fs/fscache/volumes /proc/fs/fscache/cookies"
# Each of these files has two lines of headings.
no_rows() { [ "$(cat "$@" | wc -l)" = $(($# * 2)) ]; }
# within SECONDS COMMAND...: waits until the command succeeds, at least so many seconds; fails if it does not.
within() {
    local end=$(($(date +%s) + $1 + 1))
    shift
    until "$@"; do
        [ "$(date +%s)" -lt $end ] || return
        usleep 20000
    done
}
