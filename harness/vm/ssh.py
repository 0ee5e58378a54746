# SPDX-License-Identifier: GPL-2.0-only
"""The SSH connection to a guest."""

from __future__ import annotations

import contextlib
import io
import logging
import select
import socket
import threading
from collections.abc import Callable

import paramiko

from harness.core.deadline import Deadline
from harness.core.errors import LabError
from harness.vm.commands import CommandFailed, CommandOverdue, CommandResult, ConnectionLost
from harness.vm.seed import Keys

# What paramiko would print is in the exceptions that it raises.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

#: Around each command. The SSH server is not to be killed when memory runs out, so its commands have to say that they
#: may be. A shell that has more to do does not become its last program, whose death by a signal would give no status.
COMMAND_BEGINS, COMMAND_ENDS = "echo 0 >/proc/self/oom_score_adj\n", "\nexit $?"
_CHUNK = 65536
#: From the breaking of the connection to the news that the guest has stopped.
_STOPPING_SECONDS = 3.0
#: What paramiko and sockets raise when a connection breaks or cannot be made.
_BROKEN = (paramiko.SSHException, OSError, EOFError)
#: paramiko's exit status where the server sent none.
_NO_STATUS = -1


class SshConnection:
    """A connection to one guest's SSH server, as root.

    Args:
        keys: the guest's.
        raise_if_stopped: raises :class:`GuestStopped` where the guest has stopped, or does so within some seconds.
    """

    def __init__(self, keys: Keys, raise_if_stopped: Callable[[float], None]) -> None:
        self._keys = keys
        self._raise_if_stopped = raise_if_stopped
        self._transport: paramiko.Transport | None = None

    def connect(self, port: int, deadline: Deadline) -> None:
        """Log in, with the guest's host key pinned.

        Args:
            port: on the loopback interface.
            deadline: when to give up.

        Raises:
            ConnectionLost: nobody answers.
            LabError: somebody else does.
            GuestStopped: the kernel died meanwhile.
        """
        try:
            connection = socket.create_connection(("127.0.0.1", port), _left(deadline))
            # Else each command waits some 40 ms for the acknowledgement of the one before.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = paramiko.Transport(connection)
            self._transport = transport
            transport.start_client(timeout=_left(deadline))
            if transport.get_remote_server_key().get_base64() != self._keys.public_host_key():
                raise LabError(f"the SSH server on port {port} is not the guest's", "is the port forwarded twice?")
            transport.auth_timeout = _left(deadline)
            transport.auth_publickey("root", self._keys.user_key())
        except _BROKEN as error:
            self._raise_if_stopped(_STOPPING_SECONDS)
            raise ConnectionLost(
                f"the guest's SSH server does not answer on 127.0.0.1:{port}: {str(error) or type(error).__name__}",
                "look in console.log for what the SSH server or init said",
            ) from error

    def close(self) -> None:
        """End the connection; whoever waits for a command is told."""
        if self._transport is not None:
            self._transport.close()

    def run(self, command: str, deadline: Deadline, stdin: bytes = b"") -> CommandResult:
        """Run a shell command and return its result.

        Raises:
            CommandOverdue: it did not end in time.
            CommandFailed: its shell was ended by a signal.
            ConnectionLost: the connection broke.
            GuestStopped: the kernel died, or QEMU ended.
        """
        output, errors = io.BytesIO(), io.BytesIO()
        try:
            with contextlib.closing(self._session(deadline)) as channel:
                channel.exec_command(COMMAND_BEGINS + command + COMMAND_ENDS)
                sender = threading.Thread(target=_send, args=(channel, stdin), daemon=True)
                sender.start()
                if not _collect(channel, output, errors, deadline):
                    raise CommandOverdue.at(deadline, command)
                status = channel.recv_exit_status()
        except _BROKEN as error:
            if deadline.passed() and self._is_active():
                # A guest in which nothing runs any more does not even accept a command.
                raise CommandOverdue.at(deadline, command) from error
            self._raise_if_stopped(_STOPPING_SECONDS)
            raise ConnectionLost(f"the SSH connection broke while running {command!r}: {error}") from error
        if status == _NO_STATUS:
            self._raise_if_stopped(_STOPPING_SECONDS)
            if self._is_active():
                raise CommandFailed(f"the shell that ran {command!r} was ended by a signal")
            raise ConnectionLost(f"the SSH connection ended while running {command!r}", "see console.log")
        return CommandResult(command, status, _text(output), _text(errors))

    def open_shell(self, terminal: str, columns: int, lines: int, deadline: Deadline) -> paramiko.Channel:
        """A login shell on a terminal of its own.

        Args:
            terminal: its type, as in ``$TERM``.
            columns, lines: its size in characters.
            deadline: when to give up.
        """
        channel = self._session(deadline)
        channel.get_pty(terminal, columns, lines)
        channel.invoke_shell()
        return channel

    def _is_active(self) -> bool:
        return self._transport is not None and self._transport.is_active()

    def _session(self, deadline: Deadline) -> paramiko.Channel:
        if self._transport is None:
            raise LabError("the guest is not connected")
        return self._transport.open_session(timeout=_left(deadline))


def _collect(channel: paramiko.Channel, output: io.BytesIO, errors: io.BytesIO, deadline: Deadline) -> bool:
    """Read both streams until the command has ended; False where the deadline passed before."""
    while True:
        readable, _, _ = select.select([channel], [], [], deadline.remaining())
        if not readable:
            return False
        ended = channel.exit_status_ready() and channel.eof_received
        if channel.recv_ready():
            output.write(channel.recv(_CHUNK))
        elif channel.recv_stderr_ready():
            errors.write(channel.recv_stderr(_CHUNK))
        elif ended or channel.closed:
            return True
        elif channel.eof_received:
            # The streams are closed; only the exit status is missing.
            return channel.status_event.wait(deadline.remaining())


def _left(deadline: Deadline) -> float:
    """What is left as a timeout; 0 would mean none at all to some."""
    return deadline.remaining() or 0.1


def _send(channel: paramiko.Channel, data: bytes) -> None:
    with contextlib.suppress(OSError, paramiko.SSHException):
        if data:
            channel.sendall(data)
        channel.shutdown_write()


def _text(buffer: io.BytesIO) -> str:
    return buffer.getvalue().decode("utf-8", "replace")
