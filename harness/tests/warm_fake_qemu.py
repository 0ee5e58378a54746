# SPDX-License-Identifier: GPL-2.0-only
"""Fake QEMUs without their start-up cost: forks of one process that has loaded everything already.

The program that tests put in front of QEMU is a few lines of Python that hand over their command line, environment
and file descriptors and wait. To the harness, that program is QEMU: the fork ends when it ends, and the other way
round. An interpreter that loads paramiko for every fake guest took half the time of all tests together.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

from harness.tests import fake_qemu

SOCKET = "warm.socket"
#: What the fork tells the program: to ignore SIGTERM, or else the status to end with.
IGNORE_SIGTERM = 255

PROGRAM = """\
#!{interpreter} -IS
import json, os, signal, socket, sys

descriptors = [int(name) for name in os.listdir("/proc/self/fd")]
descriptors = [number for number in descriptors if os.path.exists(f"/proc/self/fd/{{number}}")]
request = {{"pid": os.getpid(), "argv": sys.argv, "environment": dict(os.environ), "descriptors": descriptors}}
fork = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
fork.connect("{socket}")
socket.send_fds(fork, [json.dumps(request).encode()], descriptors)
while (answer := fork.recv(1)) == bytes([{ignore_sigterm}]):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    fork.send(answer)
# A fork that just ends has ended well.
sys.exit(answer[0] if answer else 0)
"""


def install(folder: Path, server: Path) -> None:
    """Put the program into a folder of ``PATH``.

    Args:
        folder: where it goes.
        server: the folder that ``serving`` gave.
    """
    program = folder / "qemu-system-x86_64"
    program.write_text(
        PROGRAM.format(interpreter=sys.executable, socket=server / SOCKET, ignore_sigterm=IGNORE_SIGTERM)
    )
    program.chmod(0o755)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Path]:
    """Have the process that forks fake QEMUs, for the time of a ``with`` block; it does not outlive its starter."""
    words = [sys.executable, "-m", "harness.tests.warm_fake_qemu", str(folder / SOCKET)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield folder


def _serve(path: str) -> None:
    """Fork a fake QEMU for each connection, until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    fake_qemu.load_ssh()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(64)
    print("ready", flush=True)
    watched: list[int | socket.socket] = [sys.stdin.fileno(), listener]
    while sys.stdin.fileno() not in select.select(watched, [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _be_qemu(connection)
        connection.close()


def _be_qemu(connection: socket.socket) -> None:
    """The fork's own side; does not return."""
    message, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 64)
    request = json.loads(message)
    _take_over(descriptors, request["descriptors"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["argv"]
    settled = threading.Event()

    def ignore_sigterm() -> None:
        connection.send(bytes([IGNORE_SIGTERM]))
        settled.wait()

    def watch() -> None:
        while connection.recv(1):
            settled.set()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    status = 1
    try:
        fake_qemu.main(request["pid"], ignore_sigterm)
        status = 0
    except SystemExit as end:
        print(end, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    connection.send(bytes([status]))
    os._exit(status)


def _take_over(received: list[int], numbers: list[int]) -> None:
    """Give file descriptors the numbers that they have in the program."""
    out_of_the_way = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 100) for descriptor in received]
    for descriptor in received:
        os.close(descriptor)
    for descriptor, number in zip(out_of_the_way, numbers, strict=True):
        os.dup2(descriptor, number, inheritable=False)
        os.close(descriptor)


if __name__ == "__main__":
    _serve(sys.argv[1])
