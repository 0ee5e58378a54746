# SPDX-License-Identifier: GPL-2.0-only
"""``harness bench`` from end to end, on a fake kernel, a fake QEMU and a fake virtme-ng."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.bench import measure as bench
from harness.bench import virtme
from harness.bench.figures import USUAL
from harness.bench.measure import EditedTree
from harness.catalog import kernels
from harness.core import host
from harness.core.cache import DIGESTS, Cache
from harness.kbuild.build import build_kernel
from harness.runner.case import SO_FAR
from harness.tests import front_door
from harness.tests.conftest import Ground
from harness.tests.fake_project import FIX, KERNEL, kernel_facts
from harness.tests.fake_qemu import HANGS, Boot, FakeQemu, Reply, Start, Then, leak_report
from harness.tests.processes import TIMEOUT, Ended, HarnessCommand, holds
from harness.vm.bringup import GuestMaker
from harness.vm.guest import Guest

FRONT_DOOR = (sys.executable, "-m", "harness.tests.front_door")
FakeProgram = Callable[[str, str], Path]
LEAKING = Boot(leaks=leak_report("cachefiles_add_cache"))
HANGING = Boot(replies=(Reply("^uname -r$", then=Then.HANG),))
WHAT_VIRTME_NG_NEEDS = ("CONFIG_9P_FS", "CONFIG_NET_9P_VIRTIO", "CONFIG_VIRTIO_PCI", "CONFIG_VIRTIO_CONSOLE")


@pytest.fixture
def here(checkout: Path, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The commands, and those that they start, work in a fake checkout."""
    monkeypatch.setenv(front_door.VARIABLE, str(checkout))
    monkeypatch.setattr(bench, "HARNESS", FRONT_DOOR)
    qemu.expect("^uname -r$")
    return checkout


@pytest.fixture
def run_bench(harness_command: HarnessCommand, here: Path) -> Callable[..., Ended]:
    """Runs ``harness bench``."""

    def run(*words: str | Path) -> Ended:
        return harness_command("bench", "--kernel", KERNEL, "--fix", FIX, *words)

    return run


def record(project: Path) -> dict[str, Any]:
    """What the latest run's folder says."""
    found: dict[str, Any] = json.loads((project / "runs/latest/bench.json").read_text())
    return found


def figures(project: Path) -> dict[str, dict[str, Any]]:
    """The figures of the latest run by name."""
    return {figure["name"]: figure for figure in record(project)["figures"]}


@pytest.mark.slow
class TestBoots:
    def test_samples_are_taken_round_by_round_and_left_in_the_run_folder(
        self, run_bench: Callable[..., Ended], here: Path, tmp_path: Path
    ) -> None:
        plot = tmp_path / "bench.svg"
        ended = run_bench("warm_restore_to_ssh", "cold_boot_to_ssh", "--repeat", "2", "--json", "--plot", plot)
        assert ended.status == 0, ended.errors
        assert json.loads(ended.output) == record(here)
        assert {name: figure["n"] for name, figure in figures(here).items()} == {
            "cold_boot_to_ssh": 2,
            "warm_restore_to_ssh": 2,
        }
        taken = re.findall(r"^(\w+ \d): [\d.]+ s$", ended.errors, re.MULTILINE)
        assert taken == [
            "cold_boot_to_ssh 1",
            "warm_restore_to_ssh 1",
            "cold_boot_to_ssh 2",
            "warm_restore_to_ssh 2",
        ]
        assert record(here)["session"]["machine"] == "microvm"
        assert plot.read_text() == (here / "runs/latest/bench.svg").read_text()
        assert "cold_boot_to_ssh" in "".join(ElementTree.parse(plot).getroot().itertext())
        assert (here / "runs/latest/results.json").is_file()

    def test_a_boot_counts_from_the_start_of_qemu_until_its_first_command_has_answered(
        self, run_bench: Callable[..., Ended], here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [0.0]
        boot, answer = GuestMaker.boot, Guest.run

        def slow_boot(maker: GuestMaker, folder: Path) -> contextlib.AbstractContextManager[Guest]:
            now[0] += 7
            return boot(maker, folder)

        def slow_answer(guest: Guest, command: str, **more: Any) -> str:
            now[0] += 2 if command == "uname -r" else 0
            return answer(guest, command, **more)

        monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: now[0]))
        monkeypatch.setattr(GuestMaker, "boot", slow_boot)
        monkeypatch.setattr(Guest, "run", slow_answer)
        assert run_bench("cold_boot_to_ssh", "--repeat", "2").status == 0
        assert record(here)["samples"]["cold_boot_to_ssh"] == [9.0, 9.0]

    def test_a_table_for_people(self, run_bench: Callable[..., Ended]) -> None:
        ended = run_bench("cold_boot_to_ssh", "--repeat", "1")
        assert "cold_boot_to_ssh" in ended.output
        assert "at most 1/4 of virtme-ng" in ended.output

    def test_a_guest_that_does_not_start_ends_with_3_and_the_figures_so_far(
        self, run_bench: Callable[..., Ended], here: Path, qemu: FakeQemu
    ) -> None:
        qemu.play(Boot(), Boot(Start.REFUSED))
        ended = run_bench("cold_boot_to_ssh", "--repeat", "3")
        assert ended.status == 3
        assert "QEMU did not start" in ended.errors
        assert figures(here)["cold_boot_to_ssh"]["n"] == 1

    def test_ctrl_c_ends_with_130_and_the_figures_so_far(self, here: Path, qemu: FakeQemu) -> None:
        qemu.play(Boot(), HANGING)
        words = [*FRONT_DOOR, "bench", "cold_boot_to_ssh", "--kernel", KERNEL, "--fix", FIX]
        process = subprocess.Popen(
            words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        try:
            assert holds(lambda: (qemu.folder / HANGS).exists() or process.poll() is not None)
            process.send_signal(signal.SIGINT)
            assert process.wait(TIMEOUT) == 130
        finally:
            process.kill()
            process.wait()
        assert figures(here)["cold_boot_to_ssh"]["n"] == 1
        assert json.loads((here / "runs/latest/results.json").read_text())["error"] == "interrupted"


@pytest.mark.slow
class TestEdits:
    def test_modules_are_compiled_anew_for_each_sample(
        self, run_bench: Callable[..., Ended], here: Path, made_targets: Callable[[], list[str]], ground: Ground
    ) -> None:
        assert run_bench("variant_rebuild", "--repeat", "1").status == 0
        once, kept = made_targets(), set((ground.cache / "modules").iterdir())
        assert run_bench("variant_rebuild", "--repeat", "3").status == 0
        # The plain modules and the variant, each time; and no kernel.
        assert made_targets()[len(once) :] == ["modules"] * 6
        assert set((ground.cache / "modules").iterdir()) == kept
        assert figures(here)["variant_rebuild"]["n"] == 3

    def test_a_command_runs_in_a_process_of_its_own(self, run_bench: Callable[..., Ended], here: Path) -> None:
        ended = run_bench("edit_to_verdict", "--repeat", "1")
        assert ended.status == 0, ended.errors
        assert figures(here)["edit_to_verdict"]["n"] == 1
        log = (here / "runs/latest/edit_to_verdict-1/output.log").read_text()
        assert f"building modules of {KERNEL} ..." in log
        assert f"pass {SO_FAR}" in log

    def test_the_first_result_ends_the_time_and_not_the_command(
        self, run_bench: Callable[..., Ended], here: Path, monkeypatch: pytest.MonkeyPatch, fake_program: FakeProgram
    ) -> None:
        program = fake_program("typed", f'echo "a case: pass {SO_FAR}"; sleep 2; echo pass')
        monkeypatch.setattr(bench, "HARNESS", (str(program),))
        ended = run_bench("edit_to_first_result", "edit_to_verdict", "--repeat", "1")
        assert ended.status == 0, ended.errors
        assert figures(here)["edit_to_first_result"]["median"] < 2 <= figures(here)["edit_to_verdict"]["median"]

    def test_a_test_case_that_does_not_pass_is_no_figure(
        self, run_bench: Callable[..., Ended], here: Path, qemu: FakeQemu
    ) -> None:
        qemu.play(LEAKING)
        ended = run_bench("cold_boot_to_ssh", "edit_to_verdict", "--repeat", "1")
        assert ended.status == 3
        assert "harness run ended with status 1" in ended.errors
        assert set(figures(here)) == {"cold_boot_to_ssh"}

    def test_the_whole_matrix(self, run_bench: Callable[..., Ended], here: Path, qemu: FakeQemu) -> None:
        qemu.play(Boot(), LEAKING)
        ended = run_bench("matrix", "--repeat", "5")
        assert ended.status == 0, ended.errors
        assert figures(here)["matrix"]["n"] == 1
        assert "proven" in (here / "runs/latest/matrix-1/output.log").read_text()

    @pytest.mark.usefixtures("installed_harness")
    def test_growth_runs_the_commands_that_it_names(self, run_bench: Callable[..., Ended], here: Path) -> None:
        ended = run_bench("matrix", "--growth")
        assert ended.status == 0, ended.errors
        typed = {
            name: (here / f"runs/latest/{name}-1/output.log").read_text().strip()
            for name in figures(here)
            if name != "matrix"
        }
        expected = {f"test_cases_{count}": (count, 1) for count in (1, 10, 50)}
        expected |= {f"guests_{count}": (8, count) for count in (1, 2, 4)}
        assert typed == {
            name: f"run {FIX} --kernel {KERNEL} --repeat {cases} -j {guests}"
            for name, (cases, guests) in expected.items()
        }

    @pytest.fixture
    def installed_harness(
        self, here: Path, fake_program: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A command ``harness`` that prints its arguments, in place of half an hour's work."""
        monkeypatch.setattr(bench, "HARNESS", (str(fake_program("typed", 'echo "$*"')),))

    def test_a_fix_that_the_kernel_lacks_ends_with_2(self, run_bench: Callable[..., Ended], here: Path) -> None:
        facts = here / "testcases/fixes" / FIX / "fix.yaml"
        facts.write_text(facts.read_text().replace(f"{KERNEL}: present", f"{KERNEL}: missing"))
        ended = run_bench("variant_rebuild")
        assert ended.status == 2
        assert f"--fix {FIX}: the kernel {KERNEL} does not have that fix" in ended.errors


class TestEditedTree:
    def test_edits_differ_and_leave_the_original_alone(self, tree: Path, cache: Cache) -> None:
        file, before = "fs/cachefiles/cache.c", (tree / "fs/cachefiles/cache.c").read_text()
        edited = EditedTree(tree, "content", file, cache)
        assert (edited.path / file).read_text() == before
        texts = []
        for _ in range(2):
            edited.edit()
            texts.append((edited.path / file).read_text())
        assert len({before, *texts}) == 3
        assert all(text.startswith(before) for text in texts)
        assert (tree / file).read_text() == before

    def test_it_is_found_whole_by_another_process(
        self, tree: Path, cache: Cache, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def unpack(folder: Path) -> None:
            shutil.copytree(tree, folder, dirs_exist_ok=True)

        original = cache.entry("sources/original", unpack)
        for _ in range(2):
            edited = EditedTree(original, "content", "fs/cachefiles/cache.c", Cache(cache.folder))
            edited.edit()
            assert not (edited.path / DIGESTS).samefile(original / DIGESTS)
        assert "damaged" not in capfd.readouterr().err

    def test_it_is_copied_once_for_each_content(self, tree: Path, cache: Cache) -> None:
        first = EditedTree(tree, "content", "Kconfig", cache).path
        assert EditedTree(tree, "content", "Kconfig", cache).path == first
        assert EditedTree(tree, "other", "Kconfig", cache).path != first
        assert not first.exists()


@pytest.mark.slow
class TestVirtmeNg:
    @pytest.fixture
    def installed(self, fake_program: Callable[[str, str], Path]) -> Path:
        """A virtme-ng whose guest answers at once."""
        script = 'case "$*" in --version) echo "virtme-ng 1.42" ;; *) echo "$*" >&2; echo 6.1.0-fake ;; esac'
        return fake_program("vng", script)

    @pytest.fixture
    def bootable(self, here: Path, ground: Ground) -> None:
        """A kernel that virtme-ng can boot is described."""
        options = "".join(f"{option}=y\n" for option in WHAT_VIRTME_NG_NEEDS)
        (here / "kernels/fragments/virtme.config").write_text(f"# For virtme-ng.\n{options}")
        tree = Path(kernels.load_kernel(here, KERNEL).source.where)
        facts = kernel_facts(tree).replace("[base]", "[base, virtme]")
        (here / f"kernels/{KERNEL}-virtme.yaml").write_text(facts)

    @pytest.mark.usefixtures("installed", "bootable")
    def test_boots_are_compared_with_it(self, run_bench: Callable[..., Ended], here: Path, ground: Ground) -> None:
        build_kernel(kernels.load_kernel(here, f"{KERNEL}-virtme"), Cache(ground.cache))
        ended = run_bench("cold_boot_to_ssh", "virtme_ng", "--repeat", "2")
        assert ended.status == 0, ended.errors
        assert figures(here)["virtme_ng"]["ratio_to_virtme_ng"] == 1
        assert figures(here)["cold_boot_to_ssh"]["ratio_to_virtme_ng"] > 0
        assert record(here)["session"]["virtme_ng"].startswith(f"virtme-ng 1.42 boots {KERNEL}-virtme (6.1.0-fake)")
        typed = (here / "runs/latest/virtme_ng-1/virtme-ng.log").read_text()
        assert re.search(r"--run \S+/bzImage --cpus 2 --memory 512M --disable-kvm .*-- uname -r", typed)

    @pytest.mark.usefixtures("bootable")
    def test_in_a_virtual_environment_that_is_not_on_the_path_it_is_found_with_its_other_programs(
        self, here: Path, ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, script in (("vng", 'virtme-run "$@"'), ("virtme-run", 'echo "virtme-ng 1.42"')):
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        monkeypatch.setattr(host, "find_program", lambda _: None)
        built = build_kernel(kernels.load_kernel(here, f"{KERNEL}-virtme"), Cache(ground.cache))
        with monkeypatch.context() as patch:
            patch.setattr(host, "require_program", lambda program: shutil.which(program) or program)
            found = virtme.find(built, here, Cache(ground.cache))
        assert (found.program, found.version, found.same) == (str(tmp_path / "vng"), "virtme-ng 1.42", True)

    @pytest.mark.usefixtures("installed", "bootable")
    def test_no_kernel_is_built_for_it(
        self, run_bench: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, here: Path
    ) -> None:
        monkeypatch.setenv("FAKE_KERNEL_DROPS", "CONFIG_NICE")
        fragment = here / "kernels/fragments/virtme.config"
        fragment.write_text(f"{fragment.read_text()}CONFIG_OTHER=y\n")
        ended = run_bench("virtme_ng")
        assert ended.status == 2
        assert f"harness build {KERNEL}-virtme" in ended.errors

    @pytest.mark.usefixtures("installed")
    def test_the_options_that_it_needs_are_named(self, run_bench: Callable[..., Ended]) -> None:
        ended = run_bench("virtme_ng")
        assert ended.status == 2
        assert "it lacks CONFIG_9P_FS" in ended.errors
        assert f"kernels/{KERNEL}-virtme.yaml" in ended.errors

    @pytest.mark.usefixtures("bootable")
    def test_a_guest_that_never_answers_ends_with_3(
        self, run_bench: Callable[..., Ended], fake_program: Callable[[str, str], Path], here: Path, ground: Ground
    ) -> None:
        fake_program("vng", "echo 'virtme-ng 1.42'")
        build_kernel(kernels.load_kernel(here, f"{KERNEL}-virtme"), Cache(ground.cache))
        ended = run_bench("virtme_ng")
        assert ended.status == 3
        assert "before its guest answered" in ended.errors
        assert "need udevd on the host" in ended.errors

    def test_without_it_the_rest_is_measured(
        self, run_bench: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, here: Path
    ) -> None:
        find = host.find_program
        monkeypatch.setattr(host, "find_program", lambda program: None if program == "vng" else find(program))
        ended = run_bench("--repeat", "1")
        assert ended.status == 0, ended.errors
        assert set(figures(here)) == {kind.name for kind in USUAL} - {"virtme_ng"}
        assert "virtme-ng is not installed" in record(here)["session"]["virtme_ng"]
        assert run_bench("virtme_ng").status == 2


class TestBadInput:
    def test_an_unknown_figure_is_named_with_those_that_exist(self, run_bench: Callable[..., Ended]) -> None:
        ended = run_bench("cold_boot_to_ssh", "cold_boot")
        assert ended.status == 2
        assert "there is no figure 'cold_boot'" in ended.errors
        assert "warm_restore_to_ssh" in ended.errors

    def test_a_plot_in_a_folder_that_does_not_exist(self, run_bench: Callable[..., Ended], tmp_path: Path) -> None:
        ended = run_bench("--plot", tmp_path / "nowhere/bench.svg")
        assert ended.status == 2
        assert "--plot" in ended.errors and "nowhere is not a folder" in ended.errors

    def test_an_unknown_fix(self, run_bench: Callable[..., Ended]) -> None:
        ended = run_bench("--fix", "no-such-fix")
        assert ended.status == 2
        assert "no-such-fix" in ended.errors
