# SPDX-License-Identifier: GPL-2.0-only
"""Findings on a terminal and in a mail, and known noise among them."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from harness.catalog.suppressions import apply
from harness.core.model import Finding, FindingKind, Frame, Outcome, RunRecord, Suppression
from harness.report import html, mail
from harness.report.findings import failures_view, is_background, overview, place
from harness.tests.records import HOSTILE, finding, result
from harness.tests.test_report import SESSION

REPORT = Finding(
    kind=FindingKind.KASAN,
    title="KASAN: use-after-free Read in withdraw",
    function="withdraw",
    access="Read",
    access_size=4,
    frames=(
        Frame("kasan_report", 1, 2),
        Frame("withdraw", 0x199, 0x1F0, "fscache", reliable=False),
        Frame("atomic_read", module="fscache", inlined=True, source="include/linux/atomic.h:27"),
        Frame("withdraw", 0x199, 0x1F0, "fscache", source="fs/fscache/volume.c:476"),
        Frame("lab_delay_hit", 1, 2, "lab_delay"),
    ),
    allocated=(Frame("__kmalloc", 1, 2), Frame("acquire", 3, 4, "fscache", source="fs/fscache/volume.c:233")),
    freed=(Frame("kfree", 1, 2), Frame("put_volume", 3, 4, "fscache")),
    object_cache="kmalloc-192",
    object_size=192,
    task="daemon/83",
    cpu=1,
    timestamp=8.5,
    kernel_release="6.1.192",
    text="BUG: KASAN: " + "a long line of the report " * 5 + "\nsecond line",
)
LATER = replace(REPORT, title="general protection fault in put", consequence=True)
NOISE = Suppression("KASAN: .* in withdraw", "known", datetime.date(2027, 1, 1))
TODAY = datetime.date(2026, 11, 22)


def shown(*findings: Finding, width: int = 120, colour: bool = False) -> str:
    console = Console(
        width=width, force_terminal=colour, color_system="standard" if colour else None, highlight=False
    )
    with console.capture() as capture:
        console.print(overview(findings, width))
    return capture.get()


class TestTerminal:
    def test_the_facts_are_named(self) -> None:
        text = shown(REPORT)
        for word in (REPORT.title, "fs/fscache/volume.c:476", "Read of 4 bytes", "kmalloc-192, 192 bytes"):
            assert word in text
        for word in ("daemon/83 on CPU 1", "6.1.192", "8.500 s"):
            assert word in text

    def test_stacks_stand_side_by_side_where_there_is_room(self) -> None:
        headings = [line for line in shown(REPORT).splitlines() if "allocated" in line]
        assert headings[0].split() == ["fault", "allocated", "freed"]

    def test_stacks_stand_below_each_other_on_a_narrow_terminal(self) -> None:
        headings = [line.split() for line in shown(REPORT, width=80).splitlines() if line.split() == ["allocated"]]
        assert headings == [["allocated"]]

    @pytest.mark.parametrize("width", [1, 20, 40, 79, 120, 150, 300])
    def test_no_line_is_wider_than_the_terminal(self, width: int) -> None:
        assert max(len(line) for line in shown(REPORT, LATER, width=width).splitlines()) <= width

    def test_frames_without_a_source_line_keep_their_offset_where_there_is_room(self) -> None:
        assert "  put_volume+0x3/0x4 [fscache]\n" in shown(REPORT, width=80)
        frame = Frame("a_function_with_a_rather_long_name", 0x100, 0x200, "fscache")
        assert "+0x100" not in shown(replace(REPORT, allocated=(frame,)), width=114)

    def test_a_long_source_line_loses_its_folder(self) -> None:
        frame = Frame("f", 1, 2, source="include/linux/atomic/very/deep/atomic-instrumented.h:27")
        assert ".../atomic-instrumented.h:27" in shown(replace(REPORT, allocated=(frame,)), width=120)

    def test_guesses_of_the_unwinder_are_left_out(self) -> None:
        assert shown(REPORT, width=80).count("  withdraw") == 1

    def test_background_is_dimmed_and_the_guilty_function_is_not(self) -> None:
        lines = shown(REPORT, width=80, colour=True).splitlines()
        assert any("\x1b[2m  kasan_report" in line for line in lines)
        assert any("\x1b[2m  lab_delay_hit" in line for line in lines)
        assert any("\x1b[1;31m  withdraw" in line for line in lines)

    @pytest.mark.parametrize(
        "name", ["dump_stack_lvl", "kasan_save_stack", "entry_SYSCALL_64_after_hwframe", "kthread"]
    )
    def test_what_is_background(self, name: str) -> None:
        assert is_background(Frame(name))

    @pytest.mark.parametrize("name", ["fscache_withdraw_volume", "cachefiles_daemon_release", "vfs_write", "kfree"])
    def test_what_is_not(self, name: str) -> None:
        assert not is_background(Frame(name, module="fscache"))

    def test_later_findings_are_marked_and_have_a_line_each(self) -> None:
        lines = shown(REPORT, LATER, replace(LATER, count=3, corrupted=True)).splitlines()
        assert any(line.startswith(f"{LATER.title} (consequence)") for line in lines)
        assert "(consequence, corrupted, 3 times)" in lines[-1]

    def test_repeated_findings_have_one_line(self) -> None:
        lines = shown(REPORT, *[LATER] * 200, replace(LATER, count=55)).splitlines()
        (shown_once,) = (line for line in lines if line.startswith(LATER.title))
        assert shown_once.startswith(f"{LATER.title} (consequence, 255 times)")

    def test_the_cause_is_the_first_that_is_no_known_noise(self) -> None:
        text = shown(replace(REPORT, suppressed=True), replace(LATER, consequence=False))
        assert text.splitlines()[0].startswith(f"{REPORT.title} (suppressed)")
        assert text.splitlines()[1] == LATER.title

    def test_a_long_stack_is_cut_and_says_so(self) -> None:
        assert "... and 22 more" in shown(replace(REPORT, frames=(Frame("f"),) * 40))

    def test_a_report_without_stacks_shows_its_text(self) -> None:
        assert "list_del corruption" in shown(finding("t", text="list_del corruption"))

    def test_place_falls_back_to_the_address(self) -> None:
        frame = Frame("withdraw.cold", 0x10, 0x20, "fscache")
        assert place(replace(REPORT, frames=(frame,))) == "withdraw.cold+0x10/0x20 [fscache]"
        assert place(replace(REPORT, frames=())) == ""

    def test_results_that_failed_show_what_the_kernel_said(self) -> None:
        console = Console(width=120, color_system=None)
        with console.capture() as capture:
            console.print(failures_view([result(), result(Outcome.CRASH, REPORT), result(Outcome.FAIL)], 120))
        assert capture.get().count("test_a.py") == 1
        assert "fs/fscache/volume.c:476" in capture.get()


class TestMail:
    def test_it_has_what_a_mailing_list_needs(self) -> None:
        text = mail.mail_text(REPORT, [LATER], "harness run a", "kernel.config")
        assert text.startswith(f"Subject: [BUG] {REPORT.title}\n\nHello,\n")
        for word in ("6.1.192", "CONFIG_KASAN=y", "kernel.config", "  harness run a\n", LATER.title):
            assert word in text
        assert "allocated in acquire() (fs/fscache/volume.c:233)" in " ".join(text.split())

    def test_an_allocator_is_not_named_where_its_caller_is_known(self) -> None:
        stack = (Frame("kmalloc_trace", 1, 2), Frame("alloc_inode", 3, 4))
        text = " ".join(mail.mail_text(replace(REPORT, allocated=stack, freed=stack[:1])).split())
        assert "allocated in alloc_inode()." in text
        assert "freed in kmalloc_trace()." in text

    def test_the_report_is_verbatim_and_prose_is_wrapped(self) -> None:
        before, _, after = mail.mail_text(REPORT).partition("The report:\n\n")
        assert after == REPORT.text + "\n"
        prose = [line for line in before.splitlines() if not line.startswith((" ", "Subject:"))]
        assert max(map(len, prose)) <= 72

    def test_stacks_with_source_lines_are_there_only_where_lines_are_known(self) -> None:
        assert "  withdraw+0x199/0x1f0 [fscache] fs/fscache/volume.c:476" in mail.mail_text(REPORT)
        assert "  atomic_read include/linux/atomic.h:27 [inline]" in mail.mail_text(REPORT)
        assert "source lines" not in mail.mail_text(finding("t", FindingKind.KASAN, "f", text="x"))

    def test_what_is_not_known_is_said(self) -> None:
        text = " ".join(mail.mail_text(finding("t", corrupted=True)).split())
        assert "not known" in text
        assert "unknown" in text
        assert "the title may be wrong" in text


HOSTILE_FRAME = Frame(HOSTILE, 1, 2, HOSTILE, source=HOSTILE)
HOSTILE_FINDING = finding(HOSTILE, text=HOSTILE, function=HOSTILE, task=HOSTILE, object_cache=HOSTILE, access=HOSTILE)
HOSTILE_FINDING = replace(
    HOSTILE_FINDING, frames=(HOSTILE_FRAME,), alt_titles=(HOSTILE,), kernel_release=HOSTILE, freed=(HOSTILE_FRAME,)
)


class TestHostileText:
    @pytest.mark.parametrize("width", [30, 200])
    def test_on_a_terminal(self, width: int) -> None:
        text = shown(HOSTILE_FINDING, HOSTILE_FINDING, width=width)
        assert not {"\x1b", "\x07", "\x9b", "\r", "\x00"} & set(text)
        assert "[bold]" in text.replace("\n", "").replace(" ", "")

    def test_in_a_mail(self) -> None:
        text = mail.mail_text(HOSTILE_FINDING, [HOSTILE_FINDING], HOSTILE, HOSTILE)
        assert not {"\x1b", "\x07", "\x9b", "\r", "\x00"} & set(text)

    def test_a_title_cannot_add_header_lines_to_a_mail(self) -> None:
        text = mail.mail_text(finding("t\nBcc: everybody@example.org"))
        assert text.splitlines()[1] == ""

    def test_on_a_page(self) -> None:
        page = html.report_html(RunRecord((result(Outcome.CRASH, HOSTILE_FINDING),), (), SESSION))
        assert "<script" not in page
        assert "\x1b" not in page

    @settings(max_examples=30)
    @given(st.text(), st.integers(1, 200))
    def test_any_text_at_any_width(self, text: str, width: int) -> None:
        shown(replace(REPORT, title=text, frames=(Frame(text, 1, 2, text, source=text),)), width=width)


class TestSuppressions:
    def test_known_noise_is_marked_and_kept(self) -> None:
        sifted = apply([REPORT, LATER], [NOISE], TODAY)
        assert [each.suppressed for each in sifted.findings] == [True, False]
        assert sifted.notes == (f"suppressed until 2027-01-01: {REPORT.title}: known",)

    def test_the_whole_title_must_match(self) -> None:
        assert not apply([REPORT], [replace(NOISE, title="KASAN")], TODAY).findings[0].suppressed

    def test_it_holds_to_the_end_of_its_last_day(self) -> None:
        assert apply([REPORT], [NOISE], NOISE.expires).findings[0].suppressed

    def test_an_expired_one_no_longer_suppresses_and_is_named(self) -> None:
        sifted = apply([REPORT], [NOISE], NOISE.expires + datetime.timedelta(days=1))
        assert sifted.findings == (REPORT,)
        assert sifted.notes == (f"no longer suppressed, expired on 2027-01-01: {REPORT.title}: known",)

    def test_an_expired_one_does_not_hide_a_valid_one(self) -> None:
        expired = replace(NOISE, expires=datetime.date(2020, 1, 1))
        assert apply([REPORT], [expired, NOISE], TODAY).findings[0].suppressed

    def test_one_that_nothing_needs_is_not_named(self) -> None:
        assert apply([LATER], [replace(NOISE, expires=datetime.date(2020, 1, 1))], TODAY).notes == ()

    @pytest.mark.parametrize(
        ("pattern", "kernel", "suppressed"),
        [("6.1.*", "", True), ("6.12.*", "", False), ("debian-*", "debian-6.1", True), ("debian-*", "", False)],
    )
    def test_a_kernel_is_its_release_or_its_name(self, pattern: str, kernel: str, suppressed: bool) -> None:
        sifted = apply([REPORT], [replace(NOISE, kernel=pattern)], TODAY, kernel)
        assert sifted.findings[0].suppressed == suppressed

    def test_what_follows_noise_only_is_no_consequence(self) -> None:
        first, second, third = apply([REPORT, LATER, LATER], [NOISE], TODAY).findings
        assert (first.suppressed, second.consequence, third.consequence) == (True, False, True)

    def test_without_noise_nothing_changes(self) -> None:
        findings = (REPORT, LATER, replace(LATER, suppressed=True))
        assert apply(findings, [], TODAY).findings == findings
