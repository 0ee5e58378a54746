# SPDX-License-Identifier: GPL-2.0-only
"""The shell of the project, ``ci/nightly``, and its summary of verdicts that changed from run to run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.bench.verdicts import read_proofs, repeated_proofs, summary_lines
from harness.core import host
from harness.core.model import Proof, Verdict
from harness.core.typed_json import encoded

CHECKOUT = Path(__file__).parents[2]
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
#: Folders that may have shell files.
WITH_SHELL = (".ci", "ci", "harness", "images", "testcases")
#: Each run gives "lost-put" the next of these verdicts and "other" always the known one.
FAKE_HARNESS = """#!/bin/sh
echo "$*" >>commands
[ "$1" = prove ] || exit 0
number=$(grep -c "prove --kernel $3" commands)
cat "proofs-$number"
"""
FAKE_PYTHON = """#!/bin/sh
case $1 in
ci/verdicts.py) exec {python} "$@" ;;
*) echo "python $*" >>commands ;;
esac
"""


def shell_files() -> list[Path]:
    """Every shell script of the checkout: it says so in its first line or its name, or busybox's sh reads it."""
    files = (file for folder in WITH_SHELL for file in (CHECKOUT / folder).rglob("*"))
    return sorted(file for file in files if file.is_file() and "__pycache__" not in file.parts and is_shell(file))


def is_shell(file: Path) -> bool:
    with file.open("rb") as stream:
        first_line = stream.readline(100)
    return file.suffix == ".sh" or file.name == "profile" or bool(re.match(rb"#!.*\b(ba)?sh\b", first_line))


def proof(fix: str, verdict: Verdict, reason: str = "so it is") -> Proof:
    return Proof(fix, "0123456789ab", "fake", verdict, reason, "", None, None, 1.0)


def output(*proofs: Proof) -> str:
    """What ``harness prove --json`` prints."""
    return json.dumps({"proofs": encoded(list[Proof], list(proofs)), "results": [], "session": {}})


class TestShell:
    def test_all_scripts_are_found(self) -> None:
        names = {str(file.relative_to(CHECKOUT)) for file in shell_files()}
        assert {".ci/run", "ci/nightly", "ci/setup", "ci/test", "harness/provoke/stress.sh"} <= names

    @pytest.mark.parametrize("file", shell_files(), ids=lambda file: str(file.relative_to(CHECKOUT)))
    def test_shellcheck_finds_nothing(self, file: Path) -> None:
        dialect = ["--shell=busybox"] if file.name == "profile" else []
        checked = subprocess.run([SHELLCHECK, *dialect, file], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr

    def test_set_up_installs_every_package_that_the_harness_needs(self) -> None:
        text = (CHECKOUT / "ci/setup").read_text()
        packages = re.search(r"^packages=\((.*?)\)", text, re.MULTILINE | re.DOTALL)
        assert packages is not None
        needed = {tool.package for tool in host.TOOLS} | {package for _, package, _ in host.FILES}
        assert needed - set(packages[1].split()) == set()


class TestVerdicts:
    def test_verdicts_that_are_the_same_and_known_get_no_line(self) -> None:
        runs = [[proof("a", Verdict.PROVEN), proof("b", Verdict.PROVEN)]] * 3
        assert list(summary_lines(repeated_proofs(runs))) == ["2 of 2 verdicts were the same in every run"]

    def test_a_verdict_that_changes_is_counted_and_each_other_one_has_its_reason(self) -> None:
        runs = [[proof("a", Verdict.PROVEN)]] * 4 + [[proof("a", Verdict.WRONG_SIGNATURE, "saw enqueue_timer")]]
        assert list(summary_lines(repeated_proofs(runs))) == [
            "0 of 1 verdicts were the same in every run",
            "a: proven in 4, wrong signature in 1 of 5",
            "    run 5: wrong signature: saw enqueue_timer",
        ]

    def test_a_verdict_that_is_always_the_same_but_not_the_known_one_is_named(self) -> None:
        lines = list(summary_lines(repeated_proofs([[proof("a", Verdict.NOT_REPRODUCED)]] * 2)))
        assert lines[0] == "1 of 1 verdicts were the same in every run"
        assert lines[1] == "a: not reproduced in 2 of 2"

    def test_a_run_without_a_fix_has_no_verdict(self) -> None:
        (repeated,) = repeated_proofs([[proof("a", Verdict.PROVEN)], []])
        assert repeated.verdicts == ("proven", "no verdict")
        assert not repeated.is_stable and not repeated.is_known
        assert "    run 2: no verdict" in list(summary_lines([repeated]))

    def test_what_prove_prints_is_read_back(self) -> None:
        proofs = (proof("a", Verdict.PROVEN), proof("b", Verdict.REGRESSED))
        assert read_proofs(output(*proofs)) == proofs

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("", "Expecting value"),
            ("[]", "no proofs in it"),
            ('{"results": []}', "no proofs in it"),
            ('{"proofs": [{"fix": "a"}]}', "Field required"),
        ],
    )
    def test_anything_else_is_refused(self, text: str, complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint):
            read_proofs(text)


@pytest.mark.slow
class TestNightly:
    @pytest.fixture
    def checkout(self, tmp_path: Path) -> Path:
        """A checkout whose harness gives prepared verdicts; set-up does nothing."""
        (tmp_path / "ci").mkdir()
        for name in ("nightly", "verdicts.py"):
            shutil.copy(CHECKOUT / "ci" / name, tmp_path / "ci")
        scripts = {
            "ci/setup": "#!/bin/sh\n",
            ".venv/bin/harness": FAKE_HARNESS,
            ".venv/bin/python": FAKE_PYTHON.format(python=sys.executable),
        }
        for name, text in scripts.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(0o755)
        for number in range(1, 6):
            (tmp_path / f"proofs-{number}").write_text(output(proof("a", Verdict.PROVEN)))
        return tmp_path

    def nightly(self, checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        command = [str(checkout / "ci/nightly"), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def summary(self, checkout: Path) -> str:
        (file,) = checkout.glob("runs/nightly-*/summary.txt")
        return file.read_text()

    def test_every_kernel_that_fix_yaml_names_has_its_matrix(self) -> None:
        listed = subprocess.run(
            [CHECKOUT / "ci/nightly", "--list"], capture_output=True, text=True, check=True
        ).stdout
        facts = map(yaml.safe_load, (file.read_text() for file in CHECKOUT.glob("testcases/fixes/*/fix.yaml")))
        kernels = {kernel for fix in facts for kernel in fix["kernels"]}
        assert kernels
        for kernel in kernels:
            assert f"harness prove --kernel {kernel}, 5 times\n" in listed

    def test_each_matrix_runs_five_times_and_the_rest_once(self, checkout: Path) -> None:
        ended = self.nightly(checkout)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        commands = (checkout / "commands").read_text().splitlines()
        assert commands.count("prove --kernel debian-6.1 --json") == 5
        assert commands.count("prove --kernel debian-6.12 --json") == 5
        assert commands.count("run testcases/conformance --kernel debian-6.12") == 1
        assert "python -m pytest -m boots and nightly harness/tests -v -n auto" in commands
        assert self.summary(checkout).count(": exit code 0 after ") == 4
        assert self.summary(checkout) in ended.stdout

    def test_a_verdict_that_changes_is_in_the_summary_and_ends_with_1(self, checkout: Path) -> None:
        (checkout / "proofs-4").write_text(output(proof("a", Verdict.WRONG_SIGNATURE, "saw enqueue_timer")))
        assert self.nightly(checkout).returncode == 1
        text = self.summary(checkout)
        assert text.count("a: proven in 4, wrong signature in 1 of 5\n    run 4: wrong signature: saw enqueue") == 2
        assert "harness prove --kernel debian-6.12, 5 times: exit code 1" in text

    def test_a_run_that_leaves_nothing_is_named_and_does_not_stop_the_others(self, checkout: Path) -> None:
        (checkout / "proofs-2").write_text("")
        assert self.nightly(checkout).returncode == 1
        assert "debian-6.1-2.json: Expecting value" in self.summary(checkout)
        assert "a: proven in 4, no verdict in 1 of 5" in self.summary(checkout)
        assert len((checkout / "commands").read_text().splitlines()) == 12

    def test_an_interruption_ends_it(self, checkout: Path) -> None:
        (checkout / ".venv/bin/harness").write_text("#!/bin/sh\nexit 130\n")
        ended = self.nightly(checkout)
        assert ended.returncode == 130
        assert "interrupted; summary so far: runs/nightly-" in ended.stderr

    def test_a_word_that_it_does_not_know_ends_with_2(self, checkout: Path) -> None:
        ended = self.nightly(checkout, "debian-6.1")
        assert (ended.returncode, ended.stderr) == (2, "usage: ci/nightly [--list]\n")
        assert not (checkout / "runs").exists()
