# SPDX-License-Identifier: GPL-2.0-only
"""The kernel log parser on small hand-written logs: prefixes, stacks, titles, streaming, leaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.model import FindingKind, Frame
from harness.klog import LogParser, engine, is_kmemleak, parse, parse_kmemleak
from harness.klog.formats import FAMILIES
from harness.klog.parser import HINTS, MAX_LINE, MAX_REPORTS
from harness.klog.prefix import split_prefix
from harness.klog.report import STRAY_LINES_AFTER_LAST_LINE
from harness.klog.rustnames import readable
from harness.klog.schema import End
from harness.klog.stack import parse_frame, parse_pointer, title_functions
from harness.klog.titles import clean, without_syscall_prefix

LOGS = Path(__file__).parent / "data" / "klog"


def own_log(name: str) -> bytes:
    return (LOGS / f"{name}.log").read_bytes().partition(b"\n\n")[2]


OOPS = """\
[    1.000000] BUG: kernel NULL pointer dereference, address: 0000000000000008
[    1.000010] #PF: supervisor read access in kernel mode
[    1.000020] Oops: 0000 [#1] PREEMPT SMP KASAN NOPTI
[    1.000030] CPU: 1 PID: 42 Comm: cat Not tainted 6.1.128-lab #1
[    1.000040] RIP: 0010:cachefiles_ondemand_read+0x12/0x34 [cachefiles]
[    1.000050] Call Trace:
[    1.000060]  <TASK>
[    1.000070]  vfs_read+0x169/0xb50
[    1.000080]  </TASK>
[    1.000090] ---[ end trace 0000000000000000 ]---
"""
OOPS_TITLE = "BUG: unable to handle kernel NULL pointer dereference in cachefiles_ondemand_read"


class TestPrefixes:
    @pytest.mark.parametrize(
        ("raw", "context", "timestamp"),
        [
            (b"text", "", None),
            (b"[    1.500000] text", "console", 1.5),
            (b"[    1.500000][  T42] text", "console[T42]", 1.5),
            (b"[    1.500000] [     C1] text", "console[C1]", 1.5),
            (b"<6>[    1.500000] text\r", "console", 1.5),
            (b"\x1b[32m[    1.500000] \x1b[0mtext", "console", 1.5),
            (b"debian login: [    1.500000] text", "console", 1.5),
            (b"** 12 printk messages dropped ** [    1.500000] text", "console", 1.5),
            (b"[Sun Nov 22 13:49:27 2026] text", "dmesg", None),
            (b"kern  :err   : [Sun Nov 22 13:49:27 2026] text", "dmesg", None),
            (b"kern  :err   : [    1.500000] text", "console", 1.5),
            (b"[    1.500000 <    0.000012>] text", "console", 1.5),
            (b"[Nov22 13:49] text", "dmesg", None),
            (b"[  +0.000012] text", "dmesg", None),
            (b"2026-11-22T13:49:27,123456+01:00 text", "dmesg", None),
            (b"Sun 2026-11-22 13:49:27 CET guest kernel: text", "journal", None),
            (b"1795351767.123456 guest kernel: text", "journal", None),
            (b"Nov 22 13:49:27 guest kernel: text", "journal", None),
            (b"Nov  2 13:49:27 guest kern.err kernel: [    1.500000][  T42] text", "journal[T42]", 1.5),
            (b"2026-11-22T13:49:27.123456+00:00 guest kernel: text", "journal", None),
            (b"[    1.500000] guest kernel: text", "console", 1.5),
        ],
    )
    def test_prefix_is_removed(self, raw: bytes, context: str, timestamp: float | None) -> None:
        line = split_prefix(raw, start=7)
        assert (line.text, line.context, line.timestamp) == ("text", context, timestamp)
        assert (line.start, line.end) == (7, 7 + len(raw))

    def test_indentation_is_kept(self) -> None:
        assert split_prefix(b"[    1.500000]  vfs_read+0x1/0x2").text == " vfs_read+0x1/0x2"

    def test_unsure_frames_are_known(self) -> None:
        assert split_prefix(b"[    1.5]  ? vfs_read+0x1/0x2").unsure
        assert split_prefix(b"[    1.5] [c0] [c1] vfs_read+0x1/0x2 (unreliable)").unsure
        assert not split_prefix(b"[    1.5]  vfs_read+0x1/0x2").unsure


class TestStacks:
    @pytest.mark.parametrize(
        ("text", "frame"),
        [
            (" vfs_read+0x169/0xb50", Frame("vfs_read", 0x169, 0xB50)),
            (" [<ffffffff812>] vfs_read+0x1/0x2", Frame("vfs_read", 1, 2)),
            (" ? foo.isra.0+0x1/0x2 [netfs]", Frame("foo.isra.0", 1, 2, module="netfs", reliable=False)),
            (" foo+0x1/0x2 fs/netfs/io.c:12", Frame("foo", 1, 2, source="fs/netfs/io.c:12")),
            (" foo fs/netfs/io.c:12 [inline]", Frame("foo", inlined=True, source="fs/netfs/io.c:12")),
            (" [<     inline     >] foo fs/io.c:12", Frame("foo", inlined=True, source="fs/io.c:12")),
            (" foo+0x1/0x2 [mod 5f3a9c]", Frame("foo", 1, 2, module="mod")),
        ],
    )
    def test_frame(self, text: str, frame: Frame) -> None:
        assert parse_frame(text) == frame

    @pytest.mark.parametrize("text", ["", "Call Trace:", " <TASK>", "RAX: 0000000000000000", "foo is not a frame"])
    def test_no_frame(self, text: str) -> None:
        assert parse_frame(text) is None

    @pytest.mark.parametrize("text", ["RIP: 0010:foo+0x1/0x2 [mod]", "pc : foo+0x1/0x2 [mod]"])
    def test_instruction_pointer(self, text: str) -> None:
        assert parse_pointer(text) == Frame("foo", 1, 2, module="mod")

    def test_titles_have_no_compiler_suffix(self) -> None:
        assert title_functions(" foo.constprop.0.cold+0x1/0x2") == ("foo",)

    def test_inlined_and_unsure_frames_are_not_for_titles(self) -> None:
        assert title_functions(" foo fs/io.c:12 [inline]") == ()
        assert title_functions(" ? foo+0x1/0x2") == ()

    def test_arm_offers_the_callee_too(self) -> None:
        assert title_functions("[<c01>] (foo) from [<c02>] (bar+0x1/0x2)") == ("foo", "bar")


class TestTitles:
    def test_what_changes_from_run_to_run_is_replaced(self) -> None:
        assert clean("BUG: x at 0xffff888103d51a00 on CPU#3, pid 12, fs/io.c:42") == (
            "BUG: x at ADDR on CPU, pid NUM, fs/io.c:LINE"
        )

    def test_unprintable_characters_and_length(self) -> None:
        assert clean("a\x00\x1b  b\tc") == "a b c"
        assert len(clean("x" * 1000)) == 120

    def test_system_calls_have_one_name(self) -> None:
        assert without_syscall_prefix("__x64_sys_rmdir") == "sys_rmdir"
        assert without_syscall_prefix("__se_sys_mremap") == "mremap"

    @pytest.mark.parametrize(
        ("mangled", "name"),
        [
            ("vfs_read", "vfs_read"),
            ("_RNvC3foo3bar", "foo::bar"),
            ("_RNvMs_C3fooNtB4_4Type3new", "<foo::Type>::new"),
            ("_RINvC3foo3barlRhE", "foo::bar<i32, &u8>"),
            ("_RNvC3foo", "_RNvC3foo"),
            ("_R" + "N" * 500, "_R" + "N" * 500),
        ],
    )
    def test_rust_names(self, mangled: str, name: str) -> None:
        assert readable(mangled) == name


class TestTable:
    def test_each_marker_has_a_hint(self) -> None:
        assert [f.marker for f in FAMILIES if not any(hint in f.marker.encode() for hint in HINTS)] == []

    def test_one_line_reports_have_no_frame_rule(self) -> None:
        assert [row.title for f in FAMILIES for row in f.formats if row.end is End.HEADER and row.frame] == []


class TestFindings:
    def test_kasan(self) -> None:
        (finding,) = parse(own_log("kasan-6.1"))
        assert finding.kind is FindingKind.KASAN
        assert (finding.access, finding.access_size) == ("Read", 8)
        assert (finding.object_cache, finding.object_size) == ("kmalloc-192", 192)
        assert (finding.task, finding.cpu, finding.kernel_release) == ("ondemand-04-dae/962", 1, "6.1.90")
        assert finding.timestamp == pytest.approx(10.1001)
        assert [frame.function for frame in finding.allocated][2] == "cachefiles_ondemand_send_req"
        assert [frame.function for frame in finding.freed][2] == "cachefiles_ondemand_daemon_ioctl"
        assert [frame.function for frame in finding.last_work] == ["kasan_save_stack", "insert_work"]
        guilty = [frame for frame in finding.frames if frame.function == finding.function]
        assert [frame.reliable for frame in guilty] == [False, True]
        assert guilty[1].module == "cachefiles"

    def test_byte_range_is_that_of_the_report(self) -> None:
        log = own_log("kasan-6.1")
        (finding,) = parse(b"systemd: before\n" + log)
        lines = (b"systemd: before\n" + log)[finding.start : finding.end].splitlines()
        assert b"BUG: KASAN" in lines[0]
        assert lines[-1].endswith(b"=" * 66)

    def test_oops_is_followed_by_its_consequence(self) -> None:
        first, second = parse(own_log("list-corruption-6.1"))
        assert first.text.startswith("list_del corruption. prev->next should be")
        assert (first.kind, first.consequence) == (FindingKind.LIST_CORRUPTION, False)
        assert (second.title, second.kind) == ("kernel panic: Fatal exception", FindingKind.PANIC)
        assert (second.consequence, second.corrupted) == (True, False)

    def test_panic_without_its_cause_is_not_trusted(self) -> None:
        (finding,) = parse(b"[    1.000000] Kernel panic - not syncing: Fatal exception\n")
        assert (finding.corrupted, finding.consequence) == (True, False)

    def test_the_last_line_of_a_panic_is_no_second_report(self) -> None:
        (finding,) = parse(own_log("panic-stack-end-6.1"))
        assert finding.text.endswith(
            "---[ end Kernel panic - not syncing: corrupted stack end detected inside scheduler ]---"
        )

    def test_oops_frames_begin_at_the_instruction_pointer(self) -> None:
        (finding,) = parse(OOPS.encode())
        assert finding.title == OOPS_TITLE
        assert [frame.function for frame in finding.frames] == ["cachefiles_ondemand_read", "vfs_read"]

    def test_hung_tasks_are_separate_findings(self) -> None:
        first, second = parse(own_log("hung-task-6.1"))
        assert (first.task, second.task) == ("mount/123", "cat/125")
        assert second.title == "INFO: task hung in fscache_begin_lookup"

    def test_lines_of_other_tasks_are_not_in_the_report(self) -> None:
        (finding,) = parse(own_log("kasan-double-free-6.12"))
        assert "e1000" not in finding.text

    def test_two_reports_interleaved(self) -> None:
        one = own_log("kasan-double-free-6.12").splitlines(keepends=True)
        other = [line.replace(b"T301]", b"T777]").replace(b"umount", b"mount") for line in one if b"T301" in line]
        mixed = [line for pair in zip(one, other, strict=False) for line in pair]
        first, second = parse(b"".join(mixed))
        assert first.title == second.title == "KASAN: invalid-free in cachefiles_put_object"
        assert (first.task, second.task) == ("umount/301", "mount/301")
        assert (first.corrupted, second.corrupted) == (False, False)

    @pytest.mark.parametrize(("caller", "goes_on"), [("[  T42]", True), ("", False)])
    def test_only_where_the_log_names_callers_does_a_report_go_on_after_a_message_with_a_stack(
        self, caller: str, goes_on: bool
    ) -> None:
        lines = OOPS.splitlines()
        mixed = [*lines[:2], "[    1.000011] FAULT_INJECTION: forcing a failure.", *lines[2:]]
        log = "\n".join(line.replace("] ", f"]{caller} ", 1) for line in mixed)
        assert (parse(log.encode())[0].title == OOPS_TITLE) == goes_on

    def test_copy_by_syslog_is_not_a_second_finding(self) -> None:
        copy = "".join(f"Nov 22 13:49:27 guest kernel: {line}\n" for line in OOPS.splitlines())
        assert len(parse((OOPS + copy).encode())) == 1

    @pytest.mark.parametrize(
        "form",
        [
            "{}\r\n",
            "\x1b[31m{}\x1b[0m\n",
            "<3>{}\n",
            "Nov 22 13:49:27 guest kernel: {}\n",
            "\0\0\0{}\n",
        ],
    )
    def test_titles_do_not_depend_on_prefixes_and_line_ends(self, form: str) -> None:
        (finding,) = parse("".join(form.format(line) for line in OOPS.splitlines()).encode())
        assert (finding.title, finding.corrupted) == (OOPS_TITLE, False)

    def test_boots_can_be_expected(self) -> None:
        log = b"Booting the kernel.\n"
        assert [finding.title for finding in parse(log)] == ["unexpected kernel reboot"]
        assert LogParser(expected_boots=1).feed(log) == []
        assert len(LogParser(expected_boots=1).feed(log * 2)) == 1

    def test_an_error_that_cachefiles_returns_is_no_oops(self) -> None:
        assert parse(b"[    1.000000] CacheFiles: Internal error: -5\n") == ()
        (finding,) = parse(b"[    1.000000] Internal error: Oops: 96000004 [#1] PREEMPT SMP\n")
        assert finding.kind is FindingKind.OOPS

    def test_failures_of_the_tests_own_programs_are_suppressed(self) -> None:
        (finding,) = parse(b"panic: failed to create temp dir: cannot allocate memory\n")
        assert finding.suppressed


class TestStreaming:
    def test_finding_comes_with_its_last_line(self) -> None:
        parser = LogParser()
        lines = OOPS.encode().splitlines(keepends=True)
        assert [parser.feed(line) for line in lines[:-1]] == [[]] * (len(lines) - 1)
        was_open = parser.open_report
        assert [finding.title for finding in parser.feed(lines[-1])] == [OOPS_TITLE]
        assert (was_open, parser.open_report) == (True, False)
        assert parser.close() == []

    def test_report_without_a_known_end_ends_before_the_first_unrelated_line(self) -> None:
        parser = LogParser()
        parser.feed(own_log("hung-task-6.1").rpartition(b"[   12.002000]")[0])
        findings = parser.feed(b"[   12.500000] systemd[1]: Started a session.\n")
        assert len(findings) == 1
        assert not parser.open_report

    def test_noise_within_a_stack_does_not_end_the_report(self) -> None:
        lines = own_log("hung-task-6.1").splitlines(keepends=True)
        at = next(number for number, line in enumerate(lines) if b"cachefiles_ondemand_send_req" in line) + 1
        lines.insert(at, b"[   12.000950] systemd[1]: Started a session.\n")
        assert parse(b"".join(lines))[0].frames[-1].function == "erofs_fscache_read_folio"

    def test_registers_that_are_repeated_after_the_last_line_replace_lost_ones(self) -> None:
        head, pointer, tail = OOPS.partition(
            "[    1.000040] RIP: 0010:cachefiles_ondemand_read+0x12/0x34 [cachefiles]\n"
        )
        (finding,) = parse((head + tail + pointer).encode())
        assert (finding.title, finding.corrupted) == (OOPS_TITLE, False)

    def test_a_damaged_report_takes_only_a_few_lines_after_its_last_one(self) -> None:
        lost = "".join(line for line in OOPS.splitlines(keepends=True) if "+0x" not in line)
        (finding,) = parse((lost + "[    1.000100] systemd[1]: Started a session.\n" * 100).encode())
        assert finding.corrupted
        assert finding.text.count("Started a session") == STRAY_LINES_AFTER_LAST_LINE

    def test_report_does_not_wait_forever(self) -> None:
        parser = LogParser()
        parser.feed(OOPS.encode().rpartition(b"[    1.000090]")[0])
        assert len(parser.feed(b"[   60.000000]  indented, and much later\n")) == 1

    def test_flush_gives_what_is_in_progress(self) -> None:
        parser = LogParser()
        parser.feed(OOPS[: OOPS.index("Call Trace")].encode())
        (finding,) = parser.flush()
        assert (finding.title, finding.corrupted) == (OOPS_TITLE, True)
        assert not parser.open_report
        assert parser.flush() == []

    def test_long_line_is_cut(self) -> None:
        parser = LogParser()
        for _ in range(100):
            assert parser.feed(b"x" * 100_000) == []
        assert parser.feed(b"BUG: not seen\n" + OOPS.encode())[0].title == OOPS_TITLE
        assert parse(b"x" * MAX_LINE + b"BUG: not seen\n") == ()

    @pytest.mark.parametrize(
        "line", ["=" * 40, "---[ end trace 0000000000000000 ]---", "FAULT_INJECTION: forcing a failure"]
    )
    def test_a_report_that_seems_to_end_again_and_again_is_not_read_each_time(
        self, line: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        readings: list[int] = []

        def interpret(start: engine.Beginning, lines: list[str], beyond: list[str]) -> engine.Reading:
            readings.append(len(lines))
            return engine.Reading(None, "", (), "", {}, "damaged")

        monkeypatch.setattr(engine, "interpret", interpret)
        parse(b"[ 1.0][ T1] BUG: KASAN: a\n" + f"[ 1.0][ T1] {line}\n".encode() * 3000)
        assert len(readings) < 60

    def test_the_number_of_reports_is_limited(self) -> None:
        assert len(parse(b"BUG: something\n" * (MAX_REPORTS + 10))) == MAX_REPORTS


CREDENTIALS = """\
unreferenced object 0xffff888103d51a00 (size 192):
  comm "cachefilesd", pid 101, jiffies 4294900000 (age 30.5s)
  hex dump (first 16 bytes):
    01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  backtrace:
    [<00000000a1b2c3d4>] kmem_cache_alloc+0x16e/0x3d0
    [<00000000a1b2c3d4>] prepare_creds+0x26/0x9f0
    [<00000000a1b2c3d4>] cachefiles_determine_cache_security+0x10/0x1f0 [cachefiles]
    [<00000000a1b2c3d4>] cachefiles_add_cache+0x10/0x1f0 [cachefiles]
    [<00000000a1b2c3d4>] cachefiles_daemon_write+0x10/0x1f0 [cachefiles]
"""
#: As 6.12 prints it.
REQUEST = """\
unreferenced object 0xffff888103d52b00 (size 128):
  comm "cat", pid 202, jiffies 4294900100
  hex dump (first 16 bytes):
    01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  backtrace (crc 5d7f4a2b):
    __kmalloc_noprof+0x2f9/0x400
    cachefiles_ondemand_send_req+0xa3/0x690 [cachefiles]
    cachefiles_ondemand_init_object+0x73/0x90 [cachefiles]
"""


class TestLeaks:
    @pytest.mark.parametrize("text", [CREDENTIALS, CREDENTIALS + REQUEST, f"\n{REQUEST}", CREDENTIALS[:150]])
    def test_the_file_is_recognised(self, text: str) -> None:
        assert is_kmemleak(text)

    @pytest.mark.parametrize("text", ["", "\n", "  indented", f"dmesg\n{CREDENTIALS}", f"{CREDENTIALS}[ 1.0] more\n"])
    def test_other_text_is_not_taken_for_it(self, text: str) -> None:
        assert not is_kmemleak(text)

    def test_nothing(self) -> None:
        assert parse_kmemleak("") == ()

    def test_records_with_one_backtrace_are_counted(self) -> None:
        first, second = parse_kmemleak(CREDENTIALS + REQUEST + CREDENTIALS)
        assert (first.title, first.count) == ("memory leak in prepare_creds", 2)
        assert (second.title, second.count) == ("memory leak in cachefiles_ondemand_send_req", 1)
        assert (first.consequence, second.consequence) == (False, True)

    def test_record(self) -> None:
        (finding,) = parse_kmemleak(REQUEST)
        assert finding.kind is FindingKind.MEMORY_LEAK
        assert (finding.object_size, finding.task, finding.corrupted) == (128, "cat/202", False)
        assert finding.frames[1] == Frame("cachefiles_ondemand_send_req", 0xA3, 0x690, module="cachefiles")

    def test_callers_give_alternative_titles(self) -> None:
        (finding,) = parse_kmemleak(CREDENTIALS)
        assert finding.alt_titles == (
            "memory leak in cachefiles_determine_cache_security",
            "memory leak in cachefiles_add_cache",
            "memory leak in cachefiles_daemon_write",
        )

    def test_cut_record(self) -> None:
        (finding,) = parse_kmemleak(CREDENTIALS.partition("  backtrace")[0])
        assert (finding.title, finding.function, finding.corrupted) == ("memory leak in corrupted", "", True)
