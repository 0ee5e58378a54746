# SPDX-License-Identifier: GPL-2.0-only
"""The operations of sweeps: each is the shell commands around one call of ``fail-nth``.

The commands run in the guest, with the functions of ``fail_nth.sh`` and these variables: ``cache`` is a folder whose
volumes stay from one iteration to the next, without their files; ``fresh`` is an empty one; ``daemon`` is the file
with the daemon's pid; ``modules`` are those under test; ``name`` is the image, ``a`` the first time, then ``b``.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.catalog.needs import Need, of_way, parsed
from harness.core.errors import UserError

_DEVICE = '"$(cat $daemon)" /dev/cachefiles'
_ANONYMOUS_FD = '"$(cat $daemon)" "anon_inode:[cachefiles]"'
_CONFIGURED = 'open /dev/cachefiles , write "dir $fresh" , write "tag sweep"'
_SERVED = "serve && mount_erofs fsid=a"
_UMOUNT = "umount /m"


@dataclass(frozen=True)
class Operation:
    """One operation of the subsystem.

    Attributes:
        name: what users call it.
        says: one phrase for people.
        steps: for ``fail-nth``, in shell syntax: the preparation, ``inject``, and what is tested.
        setup: what must be there first, once for each iteration.
        prepare: what must be done first, each of the two times that the operation is done.
        undo: what is done after each of the two times, whether the operation succeeded or not.
        worker: the kernel function whose allocations fail, from the first step to the end of ``undo``, instead of
            those of the steps: for what workers do. Empty for the steps.
        way: how it reaches the subject (:data:`harness.catalog.needs.WAYS`).
        needs: what else it cannot do without, in the words of :mod:`harness.catalog.needs`.
    """

    name: str
    says: str
    steps: str
    setup: str = "true"
    prepare: str = "true"
    undo: str = "true"
    worker: str = ""
    way: str = "on-demand"
    needs: tuple[str, ...] = ()

    @property
    def all_needs(self) -> tuple[Need, ...]:
        """What the operation cannot do without, its way to the subject included."""
        return (*of_way(self.way), *map(parsed, self.needs))


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "device-open",
        "open the device and configure a cache",
        'inject , open /dev/cachefiles , write "dir $fresh" , write "tag sweep" , write "brun 20%" , '
        'write "bcull 15%" , write "bstop 10%" , write "frun 20%" , write "fcull 15%" , write "fstop 10%"',
        way="device",
    ),
    Operation("bind-ondemand", "bind in on-demand mode", f'{_CONFIGURED} , inject , write "bind ondemand"'),
    Operation("bind-classic", "bind in classic mode", f"{_CONFIGURED} , inject , write bind", way="device"),
    Operation(
        "take-open",
        "the daemon reads an OPEN and gets an anonymous fd",
        f"borrow {_DEVICE} , inject , read 4096",
        setup="serve && tell stop",
        prepare="begin_mount a && tell poll 60",
        # The OPEN was read and not answered: it is requested again, and answered.
        undo="tell command restore; tell resume; end_mount; tell stop",
    ),
    Operation(
        "answer-open",
        "the daemon answers an OPEN (copen)",
        f'borrow {_DEVICE} , inject , write "copen $message,$(stat -c %s /tmp/a.erofs)"',
        setup="serve --on open=hold",
        prepare="begin_mount a && await open",
        undo="end_mount",
    ),
    Operation(
        "anonymous-write",
        "the daemon writes to an anonymous fd",
        f"data /tmp/$name.erofs , borrow {_ANONYMOUS_FD} , inject , write-at $offset $length",
        setup="serve --on read=hold",
        prepare="begin_mount $name && await read",
        undo="end_mount",
    ),
    Operation(
        "cread",
        "the daemon completes a READ",
        f"data /tmp/$name.erofs , borrow {_ANONYMOUS_FD} , write-at $offset $length , inject , complete $message",
        setup="serve --on read=hold",
        prepare="begin_mount $name && await read",
        undo="end_mount",
    ),
    Operation(
        "restore",
        "the daemon has unanswered requests sent again (restore)",
        f"borrow {_DEVICE} , inject , write restore",
        setup="serve --on open=hold",
        prepare="begin_mount a && await open",
        undo="end_mount",
    ),
    Operation("mount", "mount an image (fsid)", "inject , mount erofs /m fsid=a", setup="serve", undo=_UMOUNT),
    Operation(
        "mount-domain",
        "mount an image of a domain (domain_id)",
        "inject , mount erofs /m fsid=a,domain_id=d",
        setup="serve",
        undo=_UMOUNT,
    ),
    Operation(
        "mount-device",
        "mount an image with a blob (device)",
        "inject , mount erofs /m fsid=c,device=blob",
        setup="serve",
        undo=_UMOUNT,
    ),
    Operation(
        "read-file",
        "read a file whose data is not there yet",
        "inject , view /m/data , read 65536",
        setup=_SERVED,
        prepare="drop_caches",
    ),
    Operation("remount", "remount", "inject , remount /m fsid=a", setup=_SERVED),
    Operation(
        "unmount",
        "unmount",
        "inject , umount /m",
        setup="serve",
        prepare="mount_erofs fsid=a",
        undo=_UMOUNT,
    ),
    Operation(
        "cull",
        "the daemon has a file removed",
        f'chdir ${{object%/*}} , borrow {_DEVICE} , inject , write "cull ${{object##*/}}"',
        setup="serve",
        prepare="unused_object && drop_caches",
    ),
    Operation(
        "inuse",
        "the daemon asks whether a file is in use",
        f'chdir ${{object%/*}} , borrow {_DEVICE} , inject , write "inuse ${{object##*/}}"',
        setup="serve",
        prepare="unused_object && drop_caches",
    ),
    Operation(
        "unbind",
        "close the device of a cache",
        f'{_CONFIGURED} , write "bind ondemand" , inject , close',
    ),
    Operation(
        "worker-volume",
        "a worker makes a volume, for a mount",
        "inject , mount erofs /m fsid=a",
        # The last of the 256 folders is missing, so that one is made; the others are made in the same way.
        setup="serve && drop_caches",
        prepare="rm -rf $cache/cache/I*/@ff",
        # A folder cannot be removed while its volume is there.
        undo="umount /m; within 20 no_rows /proc/fs/fscache/volumes",
        worker="fscache_create_volume_work",
    ),
    Operation(
        "worker-cookie",
        "workers make a cookie's file and let go of it, for a mount and its end",
        "inject , mount erofs /m fsid=a",
        setup="serve",
        undo="umount /m; within 20 no_rows /proc/fs/fscache/cookies",
        worker="fscache_cookie_worker",
    ),
    Operation(
        "worker-cookie-again",
        "the same for a file that exists",
        "inject , mount erofs /m fsid=a",
        setup="serve && unused_object",
        prepare="drop_caches",
        undo="umount /m; within 20 no_rows /proc/fs/fscache/cookies",
        worker="fscache_cookie_worker",
    ),
    Operation(
        "worker-reopen",
        "a worker has an object opened again whose anonymous fd was closed",
        "inject , view /m/data , read 65536",
        setup=_SERVED,
        prepare="drop_caches && tell close-fd all",
        worker="ondemand_object_worker",
    ),
    Operation(
        "module-load",
        "load the modules under test",
        'inject $(for one in $modules; do echo ", load /lib/modules/$(uname -r)/$one.ko"; done)',
        prepare="unload_modules",
        undo="load_modules",
        way="device",
        needs=("option CONFIG_MODULE_UNLOAD",),
    ),
    Operation(
        "module-unload",
        "unload the modules under test, which have just been used",
        'inject $(for one in $(reversed $modules); do echo ", unload $one"; done)',
        # A timer that fires in a module that is gone does so while the next allocation fails.
        prepare="load_modules && serve && mount_erofs fsid=a && umount /m && dismiss",
        undo="load_modules",
        needs=("option CONFIG_MODULE_UNLOAD",),
    ),
)


def chosen(names: tuple[str, ...]) -> tuple[Operation, ...]:
    """Operations by their names, each once; all of them where no name is given.

    Raises:
        UserError: there is no operation of that name.
    """
    known = {operation.name: operation for operation in OPERATIONS}
    for name in names:
        if name not in known:
            raise UserError(f"there is no operation named {name!r}", f"known: {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names)) or OPERATIONS
