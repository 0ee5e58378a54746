# SPDX-License-Identifier: GPL-2.0-only
"""A guest as test cases see it: commands over SSH, files, kmemleak, and why it stopped answering."""

from __future__ import annotations

import contextlib
import io
import logging
import secrets
import select
import shlex
import socket
import struct
import tarfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from harness import klog
from harness.core.deadline import Deadline
from harness.core.errors import LabError
from harness.core.model import Finding
from harness.kbuild.modules import ModuleSet
from harness.vm.machine import VirtualMachine

#: kmemleak does not report objects younger than this, in seconds (mm/kmemleak.c, MSECS_MIN_AGE).
KMEMLEAK_MINIMUM_AGE = 5.0
# What paramiko would print is in the exceptions that it raises.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

_KMEMLEAK = "/sys/kernel/debug/kmemleak"
#: Two scans: see Guest.scan_kmemleak().
_SCANS = f"echo scan >{_KMEMLEAK}; echo scan >{_KMEMLEAK}"
#: Where scans in the background say what they found.
_FOUND = "/run/kmemleak"
_CHUNK = 65536
#: As much as testcases/guest/programs/become-unique.c reads.
_ENTROPY_BYTES = 64
#: What a disk is read and written in, at least.
_SECTOR_BYTES = 512
#: Around each command. The SSH server is not to be killed when memory runs out, so its commands have to say that they
#: may be. A shell that has more to do does not become its last program, whose death by a signal would give no status.
COMMAND_BEGINS, COMMAND_ENDS = "echo 0 >/proc/self/oom_score_adj\n", "\nexit $?"
#: From the breaking of the SSH connection to the news that the guest has stopped.
_STOPPING_SECONDS = 3.0


class GuestStopped(Exception):
    """The guest can do nothing more: its kernel died, or QEMU has gone.

    Args:
        reason: one sentence.
        finding: the report of the kernel's death, None where QEMU vanished without one.
    """

    def __init__(self, reason: str, finding: Finding | None) -> None:
        super().__init__(reason)
        self.finding = finding


class CommandOverdue(Exception):
    """A command did not end by its deadline: something in the guest hangs."""


class CommandFailed(AssertionError):
    """A command ended with an exit status that the test case did not expect."""


@dataclass(frozen=True)
class CommandResult:
    """A command that has ended in the guest.

    Attributes:
        command: what was run.
        status: exit status, 128 + N where signal N ended it.
        output: standard output.
        errors: standard error.
    """

    command: str
    status: int
    output: str
    errors: str


@dataclass(frozen=True)
class Keys:
    """The keys of one guest, made for it alone.

    Attributes:
        user: the private key that the harness logs in with.
        host: the private key of the guest's SSH server.
    """

    user: ed25519.Ed25519PrivateKey
    host: ed25519.Ed25519PrivateKey

    @classmethod
    def make(cls) -> Keys:
        """New keys."""
        return cls(ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate())

    def paramiko_key(self) -> paramiko.PKey:
        """The user's key in paramiko's form."""
        pem = self.user.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        return paramiko.Ed25519Key.from_private_key(io.StringIO(pem.decode()))

    def seed(self, nanoseconds: int) -> bytes:
        """The tar archive that the guest unpacks over its root: keys, entropy for it alone, and the time.

        It has always the same size, because a restored machine remembers that of its disks.

        Args:
            nanoseconds: since 1970.
        """
        authorized = self.user.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        files = {
            "root/.ssh/authorized_keys": authorized + b"\n",
            "etc/dropbear/host_key": _dropbear_key(self.host),
            "run/entropy": secrets.token_bytes(_ENTROPY_BYTES),
            "run/time": f"{nanoseconds}\n".encode(),
        }
        return tar_archive(files)


def _dropbear_key(key: ed25519.Ed25519PrivateKey) -> bytes:
    """A private key in dropbear's own file format (its ed25519.c, buf_put_ed25519_priv_key())."""
    raw = serialization.Encoding.Raw
    secret = key.private_bytes(raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    public = key.public_key().public_bytes(raw, serialization.PublicFormat.Raw)
    fields = (b"ssh-ed25519", secret + public)
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


def tar_archive(files: Mapping[str, bytes]) -> bytes:
    """A tar archive of files that belong to root and are readable by root alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class Guest:
    """A booted guest.

    Args:
        machine: the virtual machine it runs in.
        keys: its keys.
        seed: file on the host that is the guest's seed disk, all zero so far.
        patience: factor on all times, 1 for a guest with hardware virtualisation.
        lab_modules: the lab's own modules: name to file on the host.
        companions: gives modules that use those under test, by name.
        share: the host's folder that the guest shares over 9P, None where the test case did not ask for one.
    """

    def __init__(
        self,
        machine: VirtualMachine,
        keys: Keys,
        seed: Path,
        patience: float,
        lab_modules: Mapping[str, Path] = MappingProxyType({}),
        companions: Callable[[str], ModuleSet] | None = None,
        share: Path | None = None,
    ) -> None:
        self.machine = machine
        self.console = machine.console
        self.patience = patience
        self._keys = keys
        self._seed = seed
        self._lab_modules = lab_modules
        self._companions = companions
        self._share = share
        self._transport: paramiko.Transport | None = None
        self._stopped = threading.Event()
        self._loaded: set[str] = set()
        #: Counters a test case reports to show that the path of a bug ran.
        self.path_counters: dict[str, int] = {}

    def become_unique(self) -> None:
        """Give the guest what makes it different from all others; it waits for that (images/overlay/lab/start)."""
        seed = self._keys.seed(time.time_ns())
        with self._seed.open("r+b", buffering=0) as disk:
            # The guest looks at the first sector: it must come last.
            disk.seek(_SECTOR_BYTES)
            disk.write(seed[_SECTOR_BYTES:])
            disk.seek(0)
            disk.write(seed[:_SECTOR_BYTES])

    def connect(self, deadline: Deadline) -> None:
        """Log in over SSH, with the guest's host key pinned.

        Raises:
            LabError: nobody answers, or somebody else does.
            GuestStopped: the kernel died meanwhile.
        """
        port = self.machine.ssh_port()
        try:
            connection = socket.create_connection(("127.0.0.1", port), deadline.remaining() or 0.1)
            # Else each command waits some 40 ms for the acknowledgement of the one before.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = paramiko.Transport(connection)
            self._transport = transport
            transport.start_client(timeout=deadline.remaining() or 0.1)
            public = self._keys.host.public_key().public_bytes(
                serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
            )
            if transport.get_remote_server_key().get_base64() != public.split()[1].decode():
                raise LabError(f"the SSH server on port {port} is not the guest's", "is the port forwarded twice?")
            transport.auth_timeout = deadline.remaining() or 0.1
            transport.auth_publickey("root", self._keys.paramiko_key())
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._raise_if_stopped(_STOPPING_SECONDS)
            raise LabError(
                f"the guest's SSH server does not answer on 127.0.0.1:{port}: {error or type(error).__name__}",
                "look at the console log for what sshd or init said",
            ) from error

    def disconnect(self) -> None:
        """End the SSH connection."""
        if self._transport is not None:
            self._transport.close()

    def stop(self) -> None:
        """The guest has stopped: let every waiting command fail at once."""
        self._stopped.set()
        if self._transport is not None:
            self._transport.close()

    def try_run(self, command: str, *, timeout: float = 30.0, stdin: bytes = b"") -> CommandResult:
        """Run a shell command as root and return its result, whatever it is.

        Args:
            command: for the guest's ``sh``.
            timeout: seconds it may take on a guest with hardware virtualisation; the
                guest's patience is applied to it.
            stdin: what it reads.

        Raises:
            GuestStopped: the kernel died, or QEMU ended.
            CommandOverdue: it did not end in time.
            CommandFailed: its shell was ended by a signal.
        """
        deadline = Deadline.after(timeout * self.patience)
        output, errors = io.BytesIO(), io.BytesIO()
        try:
            channel = self._session(deadline)
            with contextlib.closing(channel):
                channel.exec_command(COMMAND_BEGINS + command + COMMAND_ENDS)
                sender = threading.Thread(target=_send, args=(channel, stdin), daemon=True)
                sender.start()
                self._collect(channel, output, errors, deadline, command)
                status = channel.recv_exit_status()
        except (paramiko.SSHException, OSError, EOFError) as error:
            if deadline.passed() and self._is_connected():
                # A guest in which nothing runs any more does not even accept a command.
                raise _overdue(command, deadline) from error
            self._raise_if_stopped(_STOPPING_SECONDS)
            raise LabError(f"the SSH connection broke while running {command!r}: {error}") from error
        if status == -1:
            self._raise_if_stopped(_STOPPING_SECONDS)
            if self._is_connected():
                raise CommandFailed(f"the shell that ran {command!r} was ended by a signal")
            raise LabError(f"the SSH connection ended while running {command!r}", "see console.log")
        return CommandResult(command, status, _text(output), _text(errors))

    def run(self, command: str, *, timeout: float = 30.0, stdin: bytes = b"") -> str:
        """Run a shell command that is expected to succeed, and return its standard output.

        Raises:
            CommandFailed: its exit status is not 0.
            GuestStopped: the kernel died, or QEMU ended.
            CommandOverdue: it did not end in time.
        """
        result = self.try_run(command, timeout=timeout, stdin=stdin)
        if result.status != 0:
            said = (result.errors or result.output).strip() or "nothing"
            raise CommandFailed(f"{command!r} ended with {result.status} and said: {said}")
        return result.output

    def write(self, path: str, content: bytes) -> None:
        """Write a file of the guest."""
        self.run(f"cat >{shlex.quote(path)}", stdin=content)

    def read(self, path: str) -> str:
        """Contents of a text file of the guest, those in /proc and /sys included."""
        return self.run(f"cat {shlex.quote(path)}")

    def load_modules_under_test(self, modules: ModuleSet) -> None:
        """Put modules where modprobe finds them, and load them all.

        Raises:
            LabError: they do not load.
        """
        names = " ".join(shlex.quote(file.stem) for file in modules.files)
        script = f"tar -x -C / && modprobe -a {names}"
        result = self.try_run(script, stdin=modules.archive.read_bytes())
        if result.status != 0:
            raise LabError(f"the modules under test do not load: {result.errors.strip()}", "see console.log")

    def load_companions(self, name: str) -> None:
        """Load modules that use those under test; built when they are asked for the first time.

        Args:
            name: as in ``companions`` of ``kernels/*.yaml``: ``9p``, ``nfs``.

        Raises:
            LabError: they do not compile or load.
            UserError: the kernel has none of that name.
        """
        if self._companions is None:
            raise LabError("this guest was booted without companions")
        modules = self._companions(name)
        names = " ".join(shlex.quote(file.stem) for file in modules.files)
        script = f"tar -x -C / && depmod && modprobe -a {names}"
        result = self.try_run(script, stdin=modules.archive.read_bytes())
        if result.status != 0:
            raise LabError(f"the companions {name} do not load: {result.errors.strip()}", "see console.log")

    @property
    def shared_folder(self) -> Path:
        """The host's folder that this guest can mount over 9P, by the name :data:`harness.vm.machine.SHARE`.

        Raises:
            LabError: the test case has not asked for one.
        """
        if self._share is None:
            raise LabError("this guest has no shared folder", "mark the test case with @pytest.mark.shared_folder")
        return self._share

    def load_lab_module(self, name: str) -> None:
        """Load one of the lab's own modules, once.

        Raises:
            LabError: there is none of that name, or it does not load.
        """
        if name not in self._lab_modules:
            known = ", ".join(sorted(self._lab_modules))
            raise LabError(f"the lab has no module {name!r}", f"there are: {known}")
        if name in self._loaded:
            return
        path = f"/tmp/{name}.ko"
        self.write(path, self._lab_modules[name].read_bytes())
        result = self.try_run(f"insmod {path}")
        if result.status != 0:
            raise LabError(f"the lab's module {name} does not load: {result.errors.strip()}", "see console.log")
        self._loaded.add(name)

    def open_shell(self, terminal: str, columns: int, lines: int) -> paramiko.Channel:
        """A login shell on a terminal of its own.

        Args:
            terminal: its type, as in ``$TERM``.
            columns, lines: its size in characters.
        """
        channel = self._session(Deadline.after(10 * self.patience))
        channel.get_pty(terminal, columns, lines)
        channel.invoke_shell()
        return channel

    def clear_kmemleak(self) -> None:
        """Make kmemleak forget what it has reported so far (Documentation/dev-tools/kmemleak.rst)."""
        self.run(f"echo clear >{_KMEMLEAK}")

    def scan_kmemleak(self, age: float = 0.0) -> tuple[Finding, ...]:
        """What kmemleak has to say about the workload, which must have ended.

        An object is reported when it is older than five seconds, and its checksum was the same
        in two scans (mm/kmemleak.c, kmemleak_scan()). Both scans come after the five seconds: a scan
        right after the work may still find pointers on stacks, and then only the second one takes
        the checksum (tried: now and then a canary stayed unseen).

        Args:
            age: seconds since the workload ended.
        """
        script = f"sleep {_until_old_enough(age)}; {_SCANS}; cat {_KMEMLEAK}"
        return klog.parse_kmemleak(self.run(script, timeout=60))

    def begin_to_scan(self, age: float) -> None:
        """Do what :meth:`scan_kmemleak` does while the caller does something else; :meth:`scanned` gives the result.

        Args:
            age: seconds since the workload ended.
        """
        script = f"(sleep {_until_old_enough(age)}; {_SCANS}; cat {_KMEMLEAK} >{_FOUND}) </dev/null >/dev/null 2>&1 &"
        self.run(f"mkfifo {_FOUND} && {script}")

    def scanned(self) -> tuple[Finding, ...]:
        """What came of :meth:`begin_to_scan`: waits for it."""
        return klog.parse_kmemleak(self.run(f"cat {_FOUND}", timeout=60))

    def _is_connected(self) -> bool:
        return self._transport is not None and self._transport.is_active()

    def _session(self, deadline: Deadline) -> paramiko.Channel:
        self._raise_if_stopped()
        if self._transport is None:
            raise LabError("the guest is not connected")
        return self._transport.open_session(timeout=deadline.remaining() or 0.1)

    def _collect(
        self,
        channel: paramiko.Channel,
        output: io.BytesIO,
        errors: io.BytesIO,
        deadline: Deadline,
        command: str,
    ) -> None:
        """Read both streams until the command has ended."""
        while True:
            readable, _, _ = select.select([channel], [], [], deadline.remaining())
            if not readable:
                raise _overdue(command, deadline)
            ended = channel.exit_status_ready() and channel.eof_received
            if channel.recv_ready():
                output.write(channel.recv(_CHUNK))
            elif channel.recv_stderr_ready():
                errors.write(channel.recv_stderr(_CHUNK))
            elif ended or channel.closed:
                return
            elif channel.eof_received:
                # The streams are closed; only the exit status is missing.
                if not channel.status_event.wait(deadline.remaining()):
                    raise _overdue(command, deadline)
                return

    def _raise_if_stopped(self, patience: float = 0.0) -> None:
        """Say why the guest stopped, if it did.

        Args:
            patience: seconds to wait for the news; a broken connection may arrive before it.
        """
        if not self._stopped.wait(patience):
            return
        fatal = self.console.fatal
        if fatal is not None:
            raise GuestStopped(f"the kernel died: {fatal.title}", fatal)
        raise GuestStopped("QEMU ended while the guest was in use", None)


def _until_old_enough(age: float) -> str:
    return f"{max(0.0, KMEMLEAK_MINIMUM_AGE - age):.3f}"


def _overdue(command: str, deadline: Deadline) -> CommandOverdue:
    return CommandOverdue(f"{command!r} did not end within {deadline.allowed:.0f} s")


def _send(channel: paramiko.Channel, data: bytes) -> None:
    with contextlib.suppress(OSError, paramiko.SSHException):
        if data:
            channel.sendall(data)
        channel.shutdown_write()


def _text(buffer: io.BytesIO) -> str:
    return buffer.getvalue().decode("utf-8", "replace")
