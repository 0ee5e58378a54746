# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=dash
#
# What test cases, sweeps and stress runs have done in a guest (busybox sh); called by way of harness/provoke/shell.py.

# erofs_image FILE KIBIBYTES [FOLDER]: an uncompressed image with one file of random data; the folder keeps that file.
erofs_image() {
    folder=${3-$(mktemp -d)}
    mkdir -p "$folder" &&
        head -c $(($2 * 1024)) /dev/urandom >"$folder/data" &&
        mkfs.erofs --quiet "$1" "$folder" >/dev/null 2>&1 || return
    [ $# = 3 ] || rm -r "$folder"
}
# bind_and_unbind FOLDER TIMES: closing the device unbinds the cache. Whether a command is refused does not matter.
bind_and_unbind() {
    for _ in $(seq "$2"); do
        exec 3<>/dev/cachefiles
        echo "dir $1" >&3
        echo bind >&3
        exec 3>&-
    done
    true
}
# start FILES COMMAND...: runs in the background; FILES.pid, FILES.errors and, when it has ended, FILES.status. The
# shell around it outlives it, and keeps its exit status.
start() {
    files=$1
    shift
    {
        "$@" &
        echo $! >"$files.pid"
        wait $!
        echo $? >"$files.status"
    } </dev/null >/dev/null 2>"$files.errors" &
    until [ -s "$files.pid" ]; do usleep 1000; done
    cat "$files.pid"
}
# small_disk FOLDER FILE MEBIBYTES INODES: an ext4 filesystem in a file.
small_disk() {
    mkdir -p "$1" &&
        truncate -s "$3M" "$2" &&
        mkfs.ext4 -q -F -m 0 -b 4096 -N "$4" "$2" &&
        mount -o loop "$2" "$1"
}
# serve_nfs FOLDER OPTIONS PORT: NFS version 3 to this guest itself; the port is mountd's.
serve_nfs() {
    mkdir -p "$1" /run/rpcbind &&
        mount -t tmpfs export "$1" &&
        mount -t nfsd nfsd /proc/fs/nfsd &&
        rpcbind || return
    until [ -S /run/rpcbind.sock ]; do usleep 20000; done
    exportfs -i -o "$2" "127.0.0.1:$1" && rpc.nfsd -N 4 -V 3 2 && rpc.mountd -N 4 -p "$3"
}
