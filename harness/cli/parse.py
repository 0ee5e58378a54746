# SPDX-License-Identifier: GPL-2.0-only
"""``harness parse``: the findings of saved logs, as text, JSON or mail."""

from __future__ import annotations

import contextlib
import datetime
import enum
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from harness import klog
from harness.catalog import spec, suppressions
from harness.core import host
from harness.core.errors import UserError
from harness.core.model import Finding, Suppression
from harness.core.progress import results_console, say
from harness.core.text import without_control_characters
from harness.core.typed_json import encoded
from harness.klog import golden
from harness.report import mail
from harness.report.findings import overview
from harness.symbolize.source_lines import with_source_lines

_ALL_READ, _SOME_UNREADABLE = 0, 2
_STANDARD_INPUT = "-"
_CHUNK = 1 << 20
#: Largest kmemleak file or golden log that is read whole, in bytes; a longer one is read like any other log.
_LARGEST_WHOLE = 64 << 20
#: Beside a console log in a folder of evidence (harness/runner/judge.py, harness/runner/lab.py).
_REPEAT, _CONFIGURATION = "repeat.command", "kernel.config"


class Form(enum.Enum):
    """How findings are printed."""

    TEXT = enum.auto()
    JSON = enum.auto()
    MAIL = enum.auto()


@dataclass(frozen=True)
class Parsing:
    """How to read and print logs.

    Attributes:
        modules: folders with the modules of the logs' kernel, for source lines.
        suppressions: known noise.
        today: decides which suppressions have expired.
        form: how to print the findings.
    """

    modules: tuple[Path, ...]
    suppressions: tuple[Suppression, ...]
    today: datetime.date
    form: Form


def checked_folders(folders: Sequence[Path]) -> tuple[Path, ...]:
    """The folders, each of which has modules.

    Raises:
        UserError: one has none.
    """
    for folder in folders:
        if not any(folder.glob("*.ko")):
            raise UserError(f"{folder}: has no modules (*.ko)", "name a folder with the modules of the log's kernel")
    return tuple(folders)


def parse_files(files: Sequence[Path], parsing: Parsing) -> int:
    """Print the findings of logs; return the exit code.

    A file that cannot be read is named, and the others are still parsed.
    """
    status = _ALL_READ
    for file in files:
        try:
            found = _read(file)
        except OSError as error:
            say(f"error: {_shown(file)}: cannot be read ({error.strerror or error})")
            status = _SOME_UNREADABLE
            continue
        if not found:
            say(f"note: {_shown(file)}: no kernel report found")
        sifted = suppressions.apply(with_source_lines(found, parsing.modules), parsing.suppressions, parsing.today)
        for note in sifted.notes:
            say(f"note: {_shown(file)}: {without_control_characters(note)}")
        _print(file, sifted.findings, parsing.form)
    return status


def _shown(file: Path) -> str:
    return "standard input" if str(file) == _STANDARD_INPUT else without_control_characters(str(file))


def _read(file: Path) -> tuple[Finding, ...]:
    if str(file) != _STANDARD_INPUT:
        with file.open("rb") as stream:
            return _findings(stream)
    if sys.stdin is None:
        raise OSError("closed")
    return _findings(sys.stdin.buffer)


def _findings(stream: BinaryIO) -> tuple[Finding, ...]:
    """The findings of a kernel log or of /sys/kernel/debug/kmemleak, in the order of their reports."""
    data = stream.read(_CHUNK)
    if klog.is_kmemleak(_decoded(data[: data.rfind(b"\n") + 1])):
        data += stream.read(_LARGEST_WHOLE)
        if len(data) < _LARGEST_WHOLE and klog.is_kmemleak(text := _decoded(data)):
            return klog.parse_kmemleak(text)
    if golden.read(data) is not None and (whole := golden.read(data + stream.read(_LARGEST_WHOLE))):
        return whole.findings
    parser = klog.LogParser()
    found = parser.feed(data)
    while data := stream.read(_CHUNK):
        found += parser.feed(data)
    found += parser.close()
    return tuple(sorted(found, key=lambda finding: finding.start))


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _print(file: Path, findings: Sequence[Finding], form: Form) -> None:
    if form is Form.JSON:
        print(json.dumps({"file": str(file), "findings": encoded(list[Finding], list(findings))}))
    elif form is Form.MAIL:
        _print_mail(file, findings)
    else:
        console = results_console()
        console.print(f"{_shown(file)}: {len(findings)} finding(s)", markup=False, soft_wrap=True)
        console.print(overview(findings, console.width))


def _print_mail(file: Path, findings: Sequence[Finding]) -> None:
    subject = next((finding for finding in findings if not finding.suppressed), None)
    if subject is None:
        return
    is_evidence = str(file) != _STANDARD_INPUT and (file.parent / _REPEAT).is_file()
    repeat = (file.parent / _REPEAT).read_text(errors="replace").strip() if is_evidence else ""
    configuration = file.parent / _CONFIGURATION
    attached = is_evidence and configuration.is_file()
    if attached:
        say(f"note: attach {without_control_characters(str(configuration))}")
    others = [finding for finding in findings if finding is not subject]
    print(mail.mail_text(subject, others, repeat, configuration.name if attached else ""), end="")


def parse(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE", help="Kernel logs: console, dmesg, journal, kmemleak's file; - for standard input."
        ),
    ],
    modules: Annotated[
        list[Path] | None,
        typer.Option(
            "--modules", metavar="DIR", help="Modules (*.ko) of the log's kernel, for source lines (repeatable)."
        ),
    ] = None,
    suppressions_file: Annotated[
        Path | None,
        typer.Option("--suppressions", metavar="FILE", help="Known noise. Default: testcases/suppressions.yaml."),
    ] = None,
    as_mail: Annotated[
        bool, typer.Option("--mail", help="Print the first report of each file as a mail to a kernel list.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each file, one a line.")] = False,
) -> None:
    """Find the reports in kernel logs and title them as syzbot does.

    Exit codes: 0 all files were read, whatever is in them; 2 one could not be read.
    """
    if as_mail and as_json:
        raise UserError("--mail and --json exclude each other", "choose one of them")
    form = Form.MAIL if as_mail else Form.JSON if as_json else Form.TEXT
    known = spec.load_suppressions(_suppressions_file(suppressions_file))
    parsing = Parsing(checked_folders(modules or ()), known, datetime.date.today(), form)
    raise typer.Exit(parse_files(files, parsing))


def _suppressions_file(chosen: Path | None) -> Path:
    """The file that was asked for, which must exist, else the checkout's, which need not."""
    if chosen is None:
        with contextlib.suppress(UserError):
            return host.project_folder() / spec.SUPPRESSIONS
        return Path(os.devnull)
    if not chosen.is_file():
        raise UserError(f"{chosen}: there is no such file", "name a file with suppressions")
    return chosen


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(parse)
