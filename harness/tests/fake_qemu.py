# SPDX-License-Identifier: GPL-2.0-only
"""Stands in for qemu-system-x86_64: a guest that boots at once and does what a scenario says.

It reads the command line the harness gives QEMU, connects to the console's and the monitor's
sockets, prints a boot log, answers SSH with the keys of the seed disk, and has a shell on a second serial port. What
happens, boot by boot, stands in ``scenario.json`` of the folder that ``FAKE_QEMU`` names; there it also leaves, for
each boot, its process id (``boot-N.pid``) and the seed (``boot-N.tar``), and what nobody expected (``unexpected``):
a command that neither the scenario nor :data:`EXPECTED` nor :meth:`FakeQemu.expect` names fails, as does a QMP
command that is none of :data:`QMP_COMMANDS`, and so does the test.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import fcntl
import importlib
import io
import json
import os
import re
import signal
import socket
import struct
import sys
import tarfile
import termios
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

VARIABLE = "FAKE_QEMU"
VERSION = "QEMU emulator version 7.2.0 (fake)"
SCENARIO = "scenario.json"
#: A file that appears when a command hangs.
HANGS = "hangs"
#: Files with the regular expressions of commands that a test expects, and with the commands that nobody expected, as
#: JSON, one a line.
EXPECTED_BY_TEST, UNEXPECTED = "expected", "unexpected"
#: What bash calls a command that it does not find.
NOT_FOUND = 127

#: What the lab itself has every guest do, and the work of the fake checkout's test cases: these succeed silently.
EXPECTED = "|".join(
    [
        "^workload$",
        "^tar -x -C / (&& depmod )?&& modprobe -a ",
        r"^cat >/tmp/lab_\w+\.ko$",
        r"^insmod /tmp/lab_\w+\.ko$",
        r"^echo 1 >/sys/kernel/debug/lab_canary/\w+$",
        "^echo clear >/sys/kernel/debug/kmemleak$",
        "^(mkfifo /run/kmemleak && \\()?sleep [0-9.]+; echo scan >/sys/kernel/debug/kmemleak; ",
        "^cat /run/kmemleak$",
        "^echo 1 >/proc/sys/kernel/sysrq; echo w >/proc/sysrq-trigger$",
        r"^for n in \$\(seq \d+\); do taskset ",
    ]
)

#: The QMP commands that the lab gives QEMU.
QMP_COMMANDS = frozenset(
    [
        "getfd",
        "human-monitor-command",
        "migrate",
        "migrate-set-capabilities",
        "migrate-set-parameters",
        "qmp_capabilities",
        "query-status",
        "quit",
        "stop",
    ]
)

BOOT_LOG = """\
[    0.000000] Linux version 6.1.0-fake (lab@lab) #1 SMP PREEMPT_DYNAMIC
[    0.000000] Command line: console=ttyS0 root=/dev/vda ro
[    0.500000] Run /lab/init as init process
"""
WAITING = "[    0.900000] lab: waiting for its seed\n"
READY = "[    1.000000] lab: ready after 1.00 s\n"
#: What a saved machine consists of.
STATE = b"state of a fake machine"
PANIC = """\
[    2.000000] BUG: kernel NULL pointer dereference, address: 0000000000000008
[    2.000000] Oops: 0000 [#1] PREEMPT SMP KASAN NOPTI
[    2.000000] CPU: 1 PID: 42 Comm: cat Not tainted 6.1.0-fake #1
[    2.000000] RIP: 0010:cachefiles_ondemand_read+0x12/0x34 [cachefiles]
[    2.000000] Call Trace:
[    2.000000]  <TASK>
[    2.000000]  vfs_read+0x169/0xb50
[    2.000000]  </TASK>
[    2.000000] ---[ end trace 0000000000000000 ]---
[    2.100000] Kernel panic - not syncing: Fatal exception
[    2.100000] ---[ end Kernel panic - not syncing: Fatal exception ]---
"""
PANIC_TITLE = "BUG: unable to handle kernel NULL pointer dereference in cachefiles_ondemand_read"


def kasan_report(function: str) -> str:
    """What the console shows when a function reads freed memory."""
    line = "[    1.500000] "
    return "\n".join(
        [
            line + "=" * 66,
            f"{line}BUG: KASAN: use-after-free in {function}+0x71/0x80",
            f"{line}Read of size 1 at addr ffff888003a11240 by task sh/60",
            line,
            f"{line}CPU: 0 PID: 60 Comm: sh Not tainted 6.1.0-fake #1",
            f"{line}Call Trace:",
            f"{line} <TASK>",
            f"{line} dump_stack_lvl+0x34/0x48",
            f"{line} print_report+0x170/0x4d0",
            f"{line} kasan_report+0xc0/0x100",
            f"{line} {function}+0x71/0x80",
            f"{line} </TASK>",
            line + "=" * 66,
            "",
        ]
    )


def leak_report(function: str) -> str:
    """What kmemleak's file shows when a function lost an object."""
    return (
        "unreferenced object 0xffff888003a11200 (size 256):\n"
        '  comm "sh", pid 60, jiffies 4294667296 (age 9.000s)\n'
        "  hex dump (first 32 bytes):\n"
        "    5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a  ZZZZZZZZZZZZZZZZ\n"
        "  backtrace:\n"
        "    [<00000000aaaaaaaa>] __kmalloc+0x4d/0x130\n"
        f"    [<00000000bbbbbbbb>] {function}+0x20/0x60\n"
    )


_EPOCH = {"seconds": 0, "microseconds": 0}


class Start(enum.StrEnum):
    """How a boot goes."""

    READY = "ready"
    SILENT = "silent"
    PANICS = "panics"
    RESETS = "resets"
    RESETS_AT_ONCE = "resets at once"
    REFUSED = "refused"  # QEMU ends at once with a message


class Ssh(enum.StrEnum):
    """What the SSH server does."""

    ANSWERS = "answers"
    SILENT = "silent"
    WRONG_HOST_KEY = "wrong host key"


class Then(enum.StrEnum):
    """What happens while a command runs."""

    NOTHING = "nothing"
    PANIC = "panic"
    KILLED = "killed"
    RESET = "reset"
    HANG = "hang"
    SSH_DIES = "SSH dies"


@dataclass(frozen=True)
class Reply:
    """What a command does.

    Attributes:
        command: regular expression that the whole or a part of the command matches.
        output, errors, status: what the command gives back.
        console: what appears on the console meanwhile.
        then: what happens instead of the command's end.
    """

    command: str
    output: str = ""
    errors: str = ""
    status: int = 0
    console: str = ""
    then: Then = Then.NOTHING


@dataclass(frozen=True)
class Boot:
    """One boot of a guest.

    Attributes:
        start: how it goes.
        ssh: what the SSH server does.
        replies: what commands do, the first that matches counts. Others succeed silently where :data:`EXPECTED` has
            them.
        leaks: what kmemleak's file shows.
        sees_canaries: the deliberate bugs are reported.
        chatter: what the console shows before the boot log.
        ignores_sigterm: it must be killed.
        silent_to: a QMP command that a running machine does not answer.
        console_answers: the shell on the serial port does.
    """

    start: Start = Start.READY
    ssh: Ssh = Ssh.ANSWERS
    replies: tuple[Reply, ...] = ()
    leaks: str = ""
    sees_canaries: bool = True
    chatter: str = ""
    ignores_sigterm: bool = False
    silent_to: str = ""
    console_answers: bool = True


def _append(file: Path, text: str) -> None:
    with file.open("a") as stream:
        stream.write(json.dumps(text) + "\n")


def _lines(file: Path) -> list[str]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@dataclass(frozen=True)
class FakeQemu:
    """The folder with the scenario, and with what the boots left."""

    folder: Path

    def play(self, *boots: Boot) -> None:
        """Set what happens in each boot; the last one is used for all that follow."""
        (self.folder / SCENARIO).write_text(json.dumps([asdict(boot) for boot in boots]))

    def pids(self) -> list[int]:
        """The processes of all boots so far, in order."""
        files = sorted(self.folder.glob("boot-*.pid"), key=lambda file: int(file.stem.split("-")[1]))
        return [int(file.read_text()) for file in files]

    def expect(self, *commands: str) -> None:
        """Let commands succeed silently where the scenario has no reply to them.

        Args:
            commands: regular expressions that the whole or a part of a command matches.
        """
        for command in commands:
            _append(self.folder / EXPECTED_BY_TEST, command)

    def unexpected(self) -> list[str]:
        """The commands so far that nobody expected."""
        return _lines(self.folder / UNEXPECTED)

    def forget_unexpected(self) -> None:
        """Let no test fail for the commands so far that nobody expected."""
        (self.folder / UNEXPECTED).unlink()

    def seeds(self) -> list[bytes]:
        """The seed archives of all boots so far."""
        return [file.read_bytes() for file in self.folder.glob("boot-*.tar")]


def _scenario(folder: Path, number: int) -> Boot:
    boots: list[dict[str, Any]] = json.loads((folder / SCENARIO).read_text())
    chosen = boots[min(number, len(boots)) - 1]
    replies = tuple(Reply(**{**reply, "then": Then(reply["then"])}) for reply in chosen["replies"])
    return Boot(**{**chosen, "start": Start(chosen["start"]), "ssh": Ssh(chosen["ssh"]), "replies": replies})


def _claim_number(folder: Path, pid: int) -> int:
    # Linked only when it is complete: tests read it as soon as it is there.
    own = folder / f"{pid}.claim"
    own.write_text(str(pid))
    number = 1
    while True:
        try:
            (folder / f"boot-{number}.pid").hardlink_to(own)
        except FileExistsError:
            number += 1
        else:
            own.unlink()
            return number


def _settings(argv: Sequence[str], option: str) -> list[dict[str, str]]:
    """The values of an option, such as ``-chardev socket,id=console,path=...``, taken apart."""
    values = [argv[place + 1] for place, word in enumerate(argv) if word == option]
    return [dict(part.partition("=")[::2] for part in value.split(",")) for value in values]


def _incoming(argv: Sequence[str]) -> bytes | None:
    """What a machine is restored from, None where it boots."""
    if "-incoming" not in argv:
        return None
    return Path(f"/proc/self/fd/{argv[argv.index('-incoming') + 1].removeprefix('fd:')}").read_bytes()


def _connected(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    return connection


@dataclass
class Machine:
    """The machine while it runs."""

    pid: int
    boot: Boot
    console: socket.socket
    monitor: socket.socket
    listener: socket.socket
    seed: dict[str, bytes] = field(default_factory=dict)
    restored: bool = False
    #: What QMP calls the machine's state; a restored one's is asked for once before it runs.
    status: str = "running"
    leaks: str = ""
    connections: list[socket.socket] = field(default_factory=list)
    #: File descriptors that came over the monitor.
    borrowed: list[int] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Print on the console, and wait until the harness has read it."""
        try:
            self.console.sendall(text.encode("utf-8", "surrogateescape"))
            while struct.unpack("i", fcntl.ioctl(self.console, termios.TIOCOUTQ, bytes(4)))[0]:
                time.sleep(0.001)
            if text:
                time.sleep(0.01)
        except OSError:
            pass

    def serve_monitor(self) -> None:
        """Speak as much QMP as the harness needs."""
        version = {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}
        self._answer({"QMP": {"version": version, "capabilities": []}})
        text = ""
        while True:
            data, descriptors, _, _ = socket.recv_fds(self.monitor, 65536, 1)
            if not data:
                break
            self.borrowed += descriptors
            # Requests end where their outermost brace closes; nothing separates them.
            text = (text + data.decode()).lstrip()
            while text.strip():
                try:
                    request, end = json.JSONDecoder().raw_decode(text)
                except json.JSONDecodeError:
                    break
                text = text[end:].lstrip()
                self._take_request(request)

    def _take_request(self, request: dict[str, Any]) -> None:
        answer: object = {}
        identity = {"id": request["id"]} if "id" in request else {}
        if request["execute"] not in QMP_COMMANDS:
            _note_unexpected(json.dumps(request))
            error = {"class": "CommandNotFound", "desc": f"nobody expected this command: {request['execute']}"}
            self._answer({"error": error, **identity})
            return
        if request["execute"] == self.boot.silent_to and self.status == "running":
            return
        if request["execute"] == "query-status":
            answer = {"status": self.status}
        if request["execute"] == "stop":
            self.status = "paused"
        if request["execute"] == "migrate":
            os.write(self.borrowed[0], STATE)
            self._answer({"event": "MIGRATION", "data": {"status": "completed"}, "timestamp": _EPOCH})
        if request["execute"] == "human-monitor-command":
            port = self.listener.getsockname()[1]
            answer = f"Hub -1 (net):\r\n  TCP[HOST_FORWARD]  12  127.0.0.1 {port}  10.0.2.15  22  0  0\r\n"
        self._answer({"return": answer, **identity})
        if self.status == "inmigrate":
            self.status = "running"
            self._answer({"event": "RESUME", "timestamp": _EPOCH})
        if request["execute"] == "quit":
            os._exit(0)

    def await_seed(self, disk: Path) -> bytes:
        """Wait until the harness writes something on the seed disk, and return it."""
        while not any((content := disk.read_bytes())[:512]):
            time.sleep(0.002)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            streams = {entry.name: archive.extractfile(entry) for entry in archive}
            self.seed = {name: stream.read() for name, stream in streams.items() if stream is not None}
        return content

    def _answer(self, message: object) -> None:
        self.monitor.sendall(json.dumps(message).encode() + b"\r\n")

    def run(self, command: str) -> Reply:
        """What a command does; the panics and resets among them do not return."""
        reply = next((one for one in self.boot.replies if re.search(one.command, command)), None)
        if reply is None:
            reply = Reply("") if _is_expected(command) else _unexpected(command)
        if "lab_canary/use_after_free" in command and self.boot.sees_canaries:
            self.say(kasan_report("lab_canary_use_after_free"))
        if "lab_canary/leak" in command and self.boot.sees_canaries:
            self.leaks += leak_report("lab_canary_leak")
        if "echo clear" in command:
            self.leaks = ""
        if ("echo scan" in command or command == "cat /run/kmemleak") and not reply.output:
            reply = replace(reply, output=self.boot.leaks + self.leaks)
        if "sysrq-trigger" in command:
            self.say("[    3.000000] sysrq: Show Blocked State\n")
        self.say(reply.console)
        if reply.then is Then.PANIC:
            self.say(PANIC)
            os._exit(0)  # panic=-1 and -no-reboot
        if reply.then in (Then.RESET, Then.KILLED, Then.SSH_DIES):
            # A process that ends closes its sockets one after the other; these are the first.
            for connection in self.connections:
                connection.shutdown(socket.SHUT_RDWR)
        if reply.then in (Then.RESET, Then.KILLED):
            time.sleep(0.1)
        if reply.then is Then.RESET:
            os._exit(0)
        if reply.then is Then.KILLED:
            os.kill(self.pid, signal.SIGKILL)
            signal.pause()
        return reply


def _is_expected(command: str) -> bool:
    by_test = _lines(Path(os.environ[VARIABLE]) / EXPECTED_BY_TEST)
    return any(re.search(expected, command) for expected in (EXPECTED, *by_test))


def _note_unexpected(command: str) -> None:
    _append(Path(os.environ[VARIABLE]) / UNEXPECTED, command)


def _unexpected(command: str) -> Reply:
    _note_unexpected(command)
    return Reply("", errors=f"nobody expected this command: {command}\n", status=NOT_FOUND)


class SerialShell:
    """The shell on the second serial port, as far as somebody types into it what the harness does.

    Args:
        machine: runs the commands.
        user: whoever has connected to the port.
    """

    def __init__(self, machine: Machine, user: socket.socket) -> None:
        self._machine = machine
        self._input = user.makefile("r", newline="\n")
        self._user = user
        #: busybox's shell edits lines, and asks the terminal for the cursor after its prompt.
        self._prompt = "guest:~# \x1b[6n"

    def serve(self) -> None:
        """Read lines until the user goes."""
        for line in self._input:
            if self._prompt:
                self._print(line.replace("\n", "\r\n"))
            self._take(line.rstrip("\n"))
            self._print(self._prompt)

    def _take(self, line: str) -> None:
        if line.lstrip("\x03") == "stty -echo; PS1=; PS2=; echo console 'answers'":
            self._prompt = ""
            self._print("console answers\r\n")
        elif match := re.fullmatch(r'echo begin (\w+); sh -c "\$\(base64 -d <<\.', line):
            self._run_script(match[1])
        elif re.fullmatch(r"stty echo cols \d+ rows \d+; TERM=\S+ exec sh -l", line):
            self._prompt = "guest:~# "
        else:
            reply = self._machine.run(line)
            self._print(reply.output + reply.errors)

    def _run_script(self, mark: str) -> None:
        encoded = "".join(iter(lambda: self._input.readline().rstrip("\n"), "."))
        reply = self._machine.run(base64.b64decode(encoded).decode())
        end = self._input.readline()
        assert end == f')" 2>&1 </dev/null; echo "{mark} $?"\n', end
        if reply.then is not Then.HANG:
            self._print(f"begin {mark}\n{reply.output}{reply.errors}{mark} {reply.status}\n".replace("\n", "\r\n"))

    def _print(self, text: str) -> None:
        self._user.sendall(text.encode())


def _open_serial_port(machine: Machine, path: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)

    def serve() -> None:
        while True:
            user, _ = listener.accept()
            with user, contextlib.suppress(OSError):
                if machine.boot.console_answers:
                    SerialShell(machine, user).serve()
                while user.recv(65536):
                    pass

    threading.Thread(target=serve, daemon=True).start()


def _serve_ssh(machine: Machine) -> None:
    # Imported here: load_ssh() must have come first.
    import paramiko  # noqa: PLC0415
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    from paramiko import common  # noqa: PLC0415

    authorized = machine.seed["root/.ssh/authorized_keys"].split()[1].decode()

    class Server(paramiko.ServerInterface):
        def get_allowed_auths(self, username: str) -> str:
            return "publickey"

        def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
            known = username == "root" and key.get_base64() == authorized
            return common.AUTH_SUCCESSFUL if known else common.AUTH_FAILED

        def check_channel_request(self, kind: str, chanid: int) -> int:
            return common.OPEN_SUCCEEDED

        def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
            threading.Thread(target=execute, args=(channel, _bare(command.decode())), daemon=True).start()
            return True

    def execute(channel: paramiko.Channel, command: str) -> None:
        with channel.makefile("rb") as stdin:
            stdin.read()
        reply = machine.run(command)
        if reply.then is Then.HANG:
            (Path(os.environ[VARIABLE]) / HANGS).touch()
            return
        channel.sendall(reply.output.encode())
        channel.sendall_stderr(reply.errors.encode())
        channel.send_exit_status(reply.status)
        channel.close()

    def host_key() -> paramiko.PKey:
        content = machine.seed["etc/dropbear/host_key"]
        private = ed25519.Ed25519PrivateKey.from_private_bytes(content[-64:-32])
        if machine.boot.ssh is Ssh.WRONG_HOST_KEY:
            private = ed25519.Ed25519PrivateKey.generate()
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        return paramiko.Ed25519Key.from_private_key(io.StringIO(pem.decode()))

    key = host_key()
    transports = []
    while True:
        machine.connections.append(machine.listener.accept()[0])
        # Small packets would wait 40 ms for the client's delayed acknowledgements.
        machine.connections[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = paramiko.Transport(machine.connections[-1])
        transports.append(transport)
        transport.add_server_key(key)
        transport.start_server(server=Server(), event=threading.Event())


def _bare(command: str) -> str:
    """A command without what the harness puts around each of them."""
    begins, ends = "echo 0 >/proc/self/oom_score_adj\n", "\nexit $?"
    assert command.startswith(begins)
    assert command.endswith(ends)
    return command[len(begins) : -len(ends)]


def load_ssh() -> None:
    """Load paramiko; without invoke, which it can do without, in half the time."""
    sys.modules["invoke"] = None  # type: ignore[assignment]
    importlib.import_module("paramiko")


def main(pid: int, ignore_sigterm: Callable[[], None]) -> None:
    """Behave as QEMU.

    Args:
        pid: the process that the harness takes for QEMU.
        ignore_sigterm: makes that process do so.
    """
    argv = sys.argv[1:]
    if argv == ["--version"]:
        print(VERSION)
    if argv in (["--version"], ["-help"]):
        return
    folder = Path(os.environ[VARIABLE])
    number = _claim_number(folder, pid)
    boot = _scenario(folder, number)
    if boot.start is Start.REFUSED:
        sys.exit("qemu-system-x86_64: -accel kvm: failed to initialize kvm: Permission denied")
    if boot.ignores_sigterm:
        ignore_sigterm()
    sockets = {chardev["id"]: chardev["path"] for chardev in _settings(argv, "-chardev")}
    drives = {drive["id"]: Path(drive["file"]) for drive in _settings(argv, "-drive")}
    listener = socket.create_server(("127.0.0.1", 0))
    incoming = _incoming(argv)
    if incoming is not None and incoming != STATE:
        sys.exit("qemu-system-x86_64: load of migration failed: Invalid argument")
    console, monitor = _connected(sockets["console"]), _connected(sockets["qmp"])
    if boot.start is Start.RESETS_AT_ONCE:
        os._exit(0)
    machine = Machine(pid, boot, console, monitor, listener)
    if incoming is not None:
        machine.restored, machine.status = True, "inmigrate"
    threading.Thread(target=machine.serve_monitor, daemon=True).start()
    _open_serial_port(machine, sockets["shell"])
    machine.say(boot.chatter + ("" if machine.restored else BOOT_LOG))
    if boot.start is Start.PANICS:
        machine.say(PANIC)
    if boot.start in (Start.PANICS, Start.RESETS):
        os._exit(0)
    if boot.start is Start.READY:
        if not machine.restored:
            machine.say(WAITING)
        (folder / f"boot-{number}.tar").write_bytes(machine.await_seed(drives["seed"]))
        machine.say(READY)
    if boot.ssh is not Ssh.SILENT and boot.start is Start.READY:
        _serve_ssh(machine)
    signal.pause()
