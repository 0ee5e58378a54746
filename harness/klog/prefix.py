# SPDX-License-Identifier: GPL-2.0-only
"""Removes the prefixes of log lines and keeps who printed them.

A kernel message comes in many forms: straight from the console (``[   12.3][  T42] text``,
kernel/printk/printk.c, info_print_prefix()), with a level (``<6>``), after a login prompt, from
``dmesg -T``, from syslog or ``journalctl -k``, coloured, with carriage returns. ``split_prefix``
gives the bare text and a *context*: lines with the same context come from the same source (the same
task or CPU where the kernel says so, CONFIG_PRINTK_CALLER), which separates interleaved reports.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ANSI = re.compile(r"\x1b(?:\[[0-9;?]{0,32}[ -/]{0,4}[@-~]|[()][0-9A-B]|[@-Z\\-_])")

#: With ``dmesg -d`` the time since the message before follows.
_STAMP = r"\[ *(?P<seconds>\d{1,12}\.\d{1,9})(?: < *\d{1,12}\.\d{1,9}>)?\](?: ?(?P<caller>\[ *[CT]\d+\]))?"
#: As a number, or as ``dmesg -x`` spells it: ``kern  :err   : ``.
_LEVEL = r"(?:<\d+>|kern {1,4}:[a-z]{2,8} {0,4}: )?"

_PRINTK = re.compile(
    r"(?:\*\* \d+ printk messages dropped \*\* )?"
    r"(?:.* login: )?" + _LEVEL + _STAMP + r" (?:[\w.-]+ kernel: )?"
)

_MONTHS = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d+)?"

_ISO = rf"\d{{4}}-\d\d-\d\d[T ]{_CLOCK}"

#: ``dmesg -T``: [Sun Nov 22 13:49:27 2026] text; ``dmesg -e``: [Nov22 13:49] text, [  +0.000012] text;
#: ``dmesg --time-format iso``: 2026-11-22T13:49:27,123456+01:00 text
_DMESG = re.compile(
    rf"{_LEVEL}(?:\[\w{{3}} {_MONTHS} [ \d]\d {_CLOCK} \d{{4}}\]|\[{_MONTHS}[ \d]\d \d\d:\d\d\]"
    rf"|\[ *\+\d{{1,12}}\.\d{{1,9}}\]|{_ISO}[+-]\d\d:\d\d)(?P<caller>\[ *[CT]\d+\])? "
)

#: syslog and ``journalctl -k``: Nov 22 13:49:27 host kernel: text; also ISO dates, with the day of the week
#: (``-o short-full``), seconds since 1970 (``-o short-unix``), and printk's own stamp.
_JOURNAL = re.compile(
    rf"(?:{_MONTHS} [ \d]\d {_CLOCK}|(?:\w{{3}} )?{_ISO}(?: ?[A-Z]{{1,5}}|[+-][\d:]{{4,6}})?|\d{{9,12}}\.\d{{6}}) "
    r"[\w.:-]+ (?:kern\.\w+ )?kernel(?:\[\d*\])?: "
    rf"(?:{_STAMP} )?"
)

#: How x86 (arch/x86/kernel/dumpstack.c) and powerpc mark a frame that the unwinder is not sure of.
_UNSURE_X86 = re.compile(r"(?:^|\s)\? ")
_UNSURE_SUFFIX = " (unreliable)"

#: Before each line of a leak on the console (mm/kmemleak.c, pr_fmt()), not in kmemleak's file.
_KMEMLEAK = "kmemleak: "


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log without its prefix.

    Attributes:
        text: what the kernel printed.
        context: empty for a line without a prefix; equal for lines from the same source.
        timestamp: seconds since boot, None where not given.
        start, end: the line's byte range in the log, without its newline.
    """

    text: str
    context: str = ""
    timestamp: float | None = None
    start: int = 0
    end: int = 0

    @property
    def caller(self) -> str:
        """The task or CPU that printed the line (``[T42]``, ``[C1]``), empty where the log does not say."""
        return self.context[self.context.find("[") :] if "[" in self.context else ""

    @property
    def on_cpu(self) -> bool:
        """Printed from an interrupt or another context without a task (``[C1]``)."""
        return self.caller.startswith("[C")

    @property
    def unsure(self) -> bool:
        """A stack frame that the unwinder only guesses."""
        if "<EOI>" in self.text:
            return False
        return _UNSURE_X86.search(self.text) is not None or self.text.endswith(_UNSURE_SUFFIX)


def split_prefix(raw: bytes, start: int = 0) -> Line:
    """Decode a line and remove its prefix; accepts any bytes."""
    text = raw.decode("utf-8", "replace").strip("\r")
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    end = start + len(raw)
    for source, pattern in (("console", _PRINTK), ("journal", _JOURNAL), ("dmesg", _DMESG)):
        match = pattern.match(text)
        if match:
            groups = match.groupdict()
            seconds = groups.get("seconds")
            caller = (groups.get("caller") or "").replace(" ", "")
            bare = text[match.end() :].removeprefix(_KMEMLEAK)
            return Line(bare, source + caller, float(seconds) if seconds else None, start, end)
    return Line(text, "", None, start, end)
