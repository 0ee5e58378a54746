# SPDX-License-Identifier: GPL-2.0-only
"""The command ``harness``: help, exit codes, what goes to which stream, and answers to bad input."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import __version__
from harness.cli import main as cli
from harness.core import host
from harness.core.errors import LabError, UserError
from harness.tests.fake_project import FIX, KERNEL, MMDEBSTRAP
from harness.tests.processes import HarnessCommand

COMMANDS = sorted(
    command.name or command.callback.__name__ for command in cli.app.registered_commands if command.callback
)
LOG = "[    1.000000] BUG: unable to handle page fault for address: ffff\n"
LEAK = """\
unreferenced object 0xffff888103d51a00 (size 192):
  comm "cachefilesd", pid 101, jiffies 4294900000 (age 30.5s)
  backtrace:
    [<00000000a1b2c3d4>] kmem_cache_alloc+0x16e/0x3d0
    [<00000000a1b2c3d4>] cachefiles_add_cache+0x10/0x1f0 [cachefiles]
"""


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fake checkout is the one that the command works on."""
    monkeypatch.setattr(host, "project_folder", lambda: project)
    return project


class TestHelp:
    @pytest.mark.parametrize("option", ["-h", "--help"])
    def test_the_exit_codes_are_explained(self, harness_command: HarnessCommand, option: str) -> None:
        ended = harness_command(option)
        assert ended.status == 0
        assert "2 you asked for something" in " ".join(ended.output.split())

    @pytest.mark.parametrize("name", COMMANDS)
    def test_each_command_and_each_option_is_explained(
        self, harness_command: HarnessCommand, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        ended = harness_command(name, "--help")
        assert ended.status == 0
        text = re.sub(r"\x1b\[[0-9;]*m", "", ended.output)
        for line in text.splitlines():
            if re.match(r" +(-\w, )?--\w", line):
                assert re.search(r"[a-z]{2,} [A-Za-z]", line), f"option without an explanation: {line}"

    def test_without_arguments_the_commands_are_listed_with_a_whole_sentence(
        self, harness_command: HarnessCommand
    ) -> None:
        ended = harness_command()
        listed = (ended.output + ended.errors).partition("Commands:")[2].partition("Exit codes:")[0]
        assert {line.split()[0] for line in listed.splitlines() if re.match(r"  \w", line)} == set(COMMANDS)
        assert listed.count(".\n") == len(COMMANDS)
        assert "...\n" not in listed

    def test_the_readme_has_a_row_for_each_command(self) -> None:
        text = (Path(__file__).parents[2] / "README.md").read_text()
        rows = "".join(re.findall(r"^\| `harness .*", text, re.MULTILINE))
        assert set(re.findall(r"`harness ([a-z-]+)", rows)) == set(COMMANDS)

    def test_the_version_is_printed(self, harness_command: HarnessCommand) -> None:
        assert harness_command("--version").output == f"harness {__version__}\n"


class TestBadInput:
    @pytest.mark.parametrize(
        ("words", "complaint", "next_step"),
        [
            (["prove", "no-such-fix"], "no fix named 'no-such-fix'", FIX),
            (["run", "--without", "no-such-fix"], "no fix named 'no-such-fix'", FIX),
            (["run", "no-such-case"], "'no-such-case' is neither a fix nor a file", FIX),
            (["prove", "--kernel", "six"], "no kernel named 'six'", KERNEL),
            (["run", "--kernel", "six"], "no kernel named 'six'", KERNEL),
            (["build", "six"], "no kernel named 'six'", KERNEL),
            (["image", "huge"], "no image named 'huge'", "minimal"),
            (["shell", "--kernel", "six"], "no kernel named 'six'", KERNEL),
            (["prove", "--kernel", KERNEL, "--tree", "/nowhere"], "/nowhere is not a kernel source tree", "Kconfig"),
            (["build", KERNEL, "--without", "no-such-fix"], "no fix named 'no-such-fix'", FIX),
        ],
    )
    def test_what_does_not_exist_is_named_with_the_next_step(
        self, harness_command: HarnessCommand, here: Path, words: list[str], complaint: str, next_step: str
    ) -> None:
        ended = harness_command(*words)
        assert ended.status == 2
        assert complaint in ended.errors
        assert next_step in ended.errors.partition("next: ")[2]
        assert ended.output == ""
        assert "Traceback" not in ended.errors

    @pytest.mark.parametrize(
        "words", [["fly"], ["run", "--fly"], ["run", "--repeat", "0"], ["run", "--cpus", "many"], ["parse"]]
    )
    def test_a_wrong_command_line_ends_with_2(self, harness_command: HarnessCommand, words: list[str]) -> None:
        ended = harness_command(*words)
        assert ended.status == 2
        assert "Traceback" not in ended.errors

    def test_an_empty_catalogue_is_refused(self, harness_command: HarnessCommand, here: Path) -> None:
        (here / "testcases/fixes" / FIX / "fix.yaml").unlink()
        ended = harness_command("prove", "--kernel", KERNEL)
        assert (ended.status, "the catalogue has no fixes" in ended.errors) == (2, True)

    def test_a_failed_preparation_still_leaves_a_junit_file(
        self, harness_command: HarnessCommand, here: Path
    ) -> None:
        (here / f"kernels/{KERNEL}.yaml").write_text("nonsense")
        assert harness_command("run", "--kernel", KERNEL).status == 2
        assert "expected keys and values" in (here / "runs/latest/junit.xml").read_text()


class TestExitCodes:
    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (UserError("you"), 2),
            (LabError("lab"), 3),
            (ValueError("odd"), 3),
            (KeyboardInterrupt(), 130),
            (BrokenPipeError(), 0),
        ],
    )
    def test_each_exception_has_its_code(
        self, harness_command: HarnessCommand, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int
    ) -> None:
        def failing() -> None:
            raise error

        monkeypatch.setattr(cli, "_command", lambda: failing)
        assert harness_command().status == status

    def test_a_bug_in_the_harness_asks_to_be_reported(
        self, harness_command: HarnessCommand, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cli, "_command", lambda: lambda: print(1 / 0))
        errors = harness_command().errors
        assert "ZeroDivisionError" in errors
        assert "please report it" in errors


class TestBuild:
    def test_json_is_one_object_on_standard_output(self, harness_command: HarnessCommand, here: Path) -> None:
        ended = harness_command("build", KERNEL, "--json")
        assert ended.status == 0
        record = json.loads(ended.output)
        assert record["kernel"] == KERNEL
        assert all(Path(file).is_file() for file in [record["bzimage"], record["config"], *record["modules"]])
        assert "building kernel" in ended.errors

    def test_a_compile_error_ends_with_3_and_is_shown(
        self, harness_command: HarnessCommand, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAKE_KERNEL_FAILURE", "compile-error")
        ended = harness_command("build", KERNEL)
        assert ended.status == 3
        assert "init/broken.c:3:16: error:" in ended.errors

    def test_a_dropped_option_ends_with_2(
        self, harness_command: HarnessCommand, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAKE_KERNEL_DROPS", "CONFIG_KASAN")
        ended = harness_command("build", KERNEL)
        assert ended.status == 2
        assert "CONFIG_KASAN=y (requested in base.config" in ended.errors

    def test_a_failed_build_is_not_reported_as_done(
        self, harness_command: HarnessCommand, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAKE_KERNEL_FAILURE", "compile-error")
        assert "building kernel fake: done" not in harness_command("build", KERNEL).errors

    @pytest.mark.usefixtures("no_programs")
    def test_all_missing_tools_are_named_at_once(self, harness_command: HarnessCommand, here: Path) -> None:
        ended = harness_command("build", KERNEL)
        assert ended.status == 2
        for tool in host.TOOLS:
            assert tool.package in ended.errors


def test_an_image_is_built_and_its_disks_are_printed(
    harness_command: HarnessCommand, here: Path, fake_program: Callable[[str, str], Path]
) -> None:
    fake_program("mmdebstrap", MMDEBSTRAP)
    record = json.loads(harness_command("image", "--json").output)
    assert Path(record["root"]).is_file()
    assert Path(record["scratch"]).is_file()


class TestParse:
    @pytest.fixture
    def log(self, tmp_path: Path) -> Path:
        file = tmp_path / "console.log"
        file.write_text(LOG)
        return file

    def test_findings_are_listed(self, harness_command: HarnessCommand, log: Path) -> None:
        ended = harness_command("parse", log)
        assert ended.status == 0
        assert f"{log}: 1 finding(s)" in ended.output

    def test_json_is_one_object_a_line(self, harness_command: HarnessCommand, log: Path) -> None:
        records = [json.loads(line) for line in harness_command("parse", log, log, "--json").output.splitlines()]
        assert [record["file"] for record in records] == [str(log), str(log)]
        assert {"title", "kind", "alt_titles", "corrupted", "suppressed"} <= set(records[0]["findings"][0])

    def test_a_file_that_cannot_be_read_is_named_and_the_others_are_parsed(
        self, harness_command: HarnessCommand, log: Path
    ) -> None:
        ended = harness_command("parse", "/nowhere.log", log)
        assert ended.status == 2
        assert "/nowhere.log: cannot be read" in ended.errors
        assert "1 finding(s)" in ended.output

    def test_a_log_without_findings_says_so_on_standard_error(
        self, harness_command: HarnessCommand, tmp_path: Path
    ) -> None:
        (tmp_path / "quiet.log").write_text("all is well\n")
        ended = harness_command("parse", tmp_path / "quiet.log", "--json")
        assert "no kernel report found" in ended.errors
        assert json.loads(ended.output)["findings"] == []

    def test_each_file_that_cannot_be_read_gets_one_sentence(
        self, harness_command: HarnessCommand, log: Path, tmp_path: Path
    ) -> None:
        ended = harness_command("parse", tmp_path, "/nowhere", log, "--json")
        assert ended.status == 2
        assert [line for line in ended.errors.splitlines() if line] == [
            f"error: {tmp_path}: cannot be read (Is a directory)",
            "error: /nowhere: cannot be read (No such file or directory)",
        ]
        assert [json.loads(line)["file"] for line in ended.output.splitlines()] == [str(log)]

    def test_an_empty_file_is_no_error(self, harness_command: HarnessCommand, tmp_path: Path) -> None:
        (tmp_path / "empty.log").touch()
        ended = harness_command("parse", tmp_path / "empty.log", "--json")
        assert ended.status == 0
        assert json.loads(ended.output)["findings"] == []
        assert "no kernel report found" in ended.errors

    @pytest.mark.parametrize("content", [LOG, LEAK])
    def test_standard_input_is_read(
        self, harness_command: HarnessCommand, monkeypatch: pytest.MonkeyPatch, content: str
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        record = json.loads(harness_command("parse", "-", "--json").output)
        assert (record["file"], len(record["findings"])) == ("-", 1)

    def test_a_golden_log_is_read_to_its_end(self, harness_command: HarnessCommand, tmp_path: Path) -> None:
        noise = b"[    0.500000] nothing to see here\n" * 50_000
        (tmp_path / "golden.log").write_bytes(b"TITLE: something\n\n" + noise + LOG.encode())
        assert len(json.loads(harness_command("parse", tmp_path / "golden.log", "--json").output)["findings"]) == 1

    def test_kmemleaks_file_is_recognised_and_its_records_are_counted(
        self, harness_command: HarnessCommand, tmp_path: Path
    ) -> None:
        (tmp_path / "kmemleak").write_text(LEAK * 3)
        (finding,) = json.loads(harness_command("parse", tmp_path / "kmemleak", "--json").output)["findings"]
        assert (finding["title"], finding["count"]) == ("memory leak in cachefiles_add_cache", 3)

    def test_header_and_repeated_report_of_a_golden_log_are_no_reports(
        self, harness_command: HarnessCommand, tmp_path: Path
    ) -> None:
        header = b"# how it came about\nTITLE: BUG: unable to handle kernel paging request in corrupted\n\n"
        (tmp_path / "golden.log").write_bytes(header + LOG.encode() + b"\nREPORT:\n" + LOG.encode())
        (found,) = json.loads(harness_command("parse", tmp_path / "golden.log", "--json").output)["findings"]
        assert found["start"] == len(header)

    def test_consequences_are_marked(self, harness_command: HarnessCommand, tmp_path: Path) -> None:
        (tmp_path / "two.log").write_text(LOG + LOG.replace("1.0", "9.0"))
        output = harness_command("parse", tmp_path / "two.log").output
        assert output.count("(consequence") == 1

    def test_a_mail_has_the_command_that_repeats_it(self, harness_command: HarnessCommand, log: Path) -> None:
        (log.parent / "repeat.command").write_text("harness run volume\n")
        (log.parent / "kernel.config").write_text("CONFIG_KASAN=y\n")
        ended = harness_command("parse", "--mail", log)
        assert ended.output.startswith("Subject: [BUG] ")
        assert "  harness run volume\n" in ended.output
        assert f"attach {log.parent / 'kernel.config'}" in ended.errors

    def test_a_log_without_findings_makes_no_mail(self, harness_command: HarnessCommand, tmp_path: Path) -> None:
        (tmp_path / "quiet.log").write_text("all is well\n")
        assert harness_command("parse", "--mail", tmp_path / "quiet.log").output == ""

    def test_known_noise_is_marked_and_its_reason_is_given(self, harness_command: HarnessCommand, log: Path) -> None:
        noise = log.with_name("noise.yaml")
        noise.write_text("- {title: '.*', reason: an old friend, expires: 2999-12-31}\n")
        ended = harness_command("parse", "--suppressions", noise, log, "--json")
        assert ended.status == 0
        assert [each["suppressed"] for each in json.loads(ended.output)["findings"]] == [True]
        assert "an old friend" in ended.errors

    def test_the_checkouts_known_noise_is_used(self, harness_command: HarnessCommand, here: Path, log: Path) -> None:
        (here / "testcases/suppressions.yaml").write_text("- {title: '.*', reason: r, expires: 2999-12-31}\n")
        assert "(corrupted, suppressed)" in harness_command("parse", log).output

    @pytest.mark.parametrize(
        ("words", "complaint"),
        [
            (("--mail", "--json"), "exclude each other"),
            (("--modules", "/nowhere"), "no modules"),
            (("--suppressions", "/nowhere"), "no such file"),
        ],
    )
    def test_options_that_cannot_be_met_are_refused(
        self, harness_command: HarnessCommand, log: Path, words: tuple[str, ...], complaint: str
    ) -> None:
        ended = harness_command("parse", log, *words)
        assert (ended.status, ended.output) == (2, "")
        assert complaint in ended.errors

    def test_control_characters_of_a_log_do_not_reach_the_terminal(
        self, harness_command: HarnessCommand, tmp_path: Path
    ) -> None:
        (tmp_path / "evil.log").write_text(LOG.replace("BUG", "\x1b]0;evil\x07BUG"))
        assert "\x1b" not in harness_command("parse", tmp_path / "evil.log").output


class TestMissingPrograms:
    @pytest.mark.usefixtures("no_programs", "here")
    @pytest.mark.parametrize("command", ["run", "prove", "build", "image", "shell"])
    def test_they_are_named_before_anything_is_built(self, harness_command: HarnessCommand, command: str) -> None:
        ended = harness_command(command)
        assert ended.status == 2
        assert "not installed: make, gcc" in ended.errors
        assert "apt-get install make gcc binutils" in ended.errors
        assert "building" not in ended.errors


class TestDoctor:
    def test_json_has_each_check(self, harness_command: HarnessCommand) -> None:
        record = json.loads(harness_command("doctor", "--json").output)
        assert {tool.program for tool in host.TOOLS} <= {check["name"] for check in record["checks"]}
        assert record["good"] == all(check["good"] for check in record["checks"])

    @pytest.mark.usefixtures("no_programs")
    def test_missing_programs_are_named_with_one_command_that_installs_them(
        self, harness_command: HarnessCommand
    ) -> None:
        ended = harness_command("doctor")
        assert ended.status == 3
        text = " ".join(ended.output.split())
        assert "next: apt-get install make gcc binutils" in text
        assert "qemu-system-x86" in text
