# SPDX-License-Identifier: GPL-2.0-only
"""Source lines of frames, on small modules that are compiled for the tests."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness import klog
from harness.core.model import Finding, FindingKind, Frame
from harness.symbolize.source_lines import with_source_lines

# Compiled once for each format of debugging information.
pytestmark = pytest.mark.slow

#: Line numbers matter: the tests name them.
COUNTER_C = """\
extern void touch(int *place);
extern void report(int *place) __attribute__((cold, noreturn));

static inline __attribute__((always_inline)) void inner(int *place)
{
	touch(place);
}

static inline __attribute__((always_inline)) void middle(int *place)
{
	inner(place + 1);
}

int outer(int *place)
{
	middle(place);
	return *place;
}

void ends_with_a_call(int *place)
{
	report(place);
}

int __attribute__((section(".init.text"))) at_start(int *place)
{
	touch(place);
	return *place;
}
"""
OTHER_C = """\
extern void touch(int *place);

int other(int *place)
{
	touch(place);


	touch(place);
	return *place;
}
"""
#: The compiler moves the calls that are unlikely out of the function, to ``rarely.cold``.
RARELY_C = """\
extern int touch(int *place);
extern int report(const char *, ...) __attribute__((cold));

int rarely(int *place)
{
	int found = touch(place);

	if (found < 0) {
		report("x %d", found);
		return found;
	}
	found += touch(place + 1);
	if (found == 12)
		report("x %d %d", found, place[1]);
	return touch(place) + found;
}
"""
#: The flags of the kernel that matter here (its Makefile), and both versions of DWARF.
FLAGS = ("-O2", "-c", "-fno-asynchronous-unwind-tables", "-fno-pie", "-mcmodel=kernel", "-fno-optimize-sibling-calls")
DWARF = ("-gdwarf-4", "-gdwarf-5")


def command(*words: str | Path) -> str:
    return subprocess.run([*map(str, words)], check=True, capture_output=True, text=True).stdout


def compile_module(folder: Path, name: str, *flags: str, **sources: str) -> Path:
    """``name.ko`` of some sources, linked like a module of the kernel."""
    work = folder / "work"
    (work / "fs").mkdir(parents=True, exist_ok=True)
    objects = []
    for stem, text in sources.items():
        (work / f"fs/{stem}.c").write_text(text)
        objects.append(work / f"{name}-{stem}.o")
        map_ = f"-ffile-prefix-map={work}/="
        command("gcc", *FLAGS, *flags, map_, work / f"fs/{stem}.c", "-o", objects[-1])
    folder.joinpath(f"{name}.ko").parent.mkdir(exist_ok=True)
    command("ld", "-r", *objects, "-o", folder / f"{name}.ko")
    return folder / f"{name}.ko"


@pytest.fixture(scope="session", params=DWARF)
def modules(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one module of two files."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    folder = tmp_path_factory.mktemp("modules")
    compile_module(folder, "lab_counter", request.param, counter=COUNTER_C, other=OTHER_C, rarely=RARELY_C)
    return folder


def frames_behind_calls(modules: Path, function: str) -> list[Frame]:
    """A frame for the return address of each call in a function, as the kernel prints it."""
    module = modules / "lab_counter.ko"
    listing = command("objdump", "-d", "--no-show-raw-insn", module)
    body = re.split(r"\n\n", listing.partition(f"<{function}>:\n")[2])[0].splitlines()
    addresses = [int(line.split(":")[0], 16) for line in body if ":" in line]
    calls = [number for number, line in enumerate(body) if re.search(r"\bcall\b", line)]
    size = kernel_size(module, function)
    behind = [addresses[number + 1] if number + 1 < len(addresses) else addresses[0] + size for number in calls]
    return [Frame(function, address - addresses[0], size, "lab_counter") for address in behind]


def kernel_size(module: Path, function: str) -> int:
    """The function's size for the kernel: to the next symbol of its section, here to its own end at least."""
    fields = [line.split() for line in command("nm", "-S", module).splitlines()]
    start, size = next((int(row[0], 16), int(row[1], 16)) for row in fields if row[-1] == function)
    rows = command("objdump", "-t", module).splitlines()
    parts = next(row.split() for row in rows if row.endswith(f" {function}"))
    section = next(part for part in parts if part.startswith("."))
    others = [int(row.split()[0], 16) for row in rows if f" {section}\t" in row and not row.endswith(f" {section}")]
    return min((other for other in others if other > start), default=start + size) - start


def located(modules: Path, *frames: Frame, text: str = "") -> list[str]:
    """``function place`` of each frame that comes out; inlined ones in brackets."""
    finding = Finding(FindingKind.KASAN, "t", frames=frames, text=text)
    (annotated,) = with_source_lines([finding], [modules])
    return [
        f"[{frame.function}] {frame.source}" if frame.inlined else f"{frame.function} {frame.source}".rstrip()
        for frame in annotated.frames
    ]


class TestLines:
    def test_inlined_functions_come_before_the_one_they_are_in(self, modules: Path) -> None:
        (frame,) = frames_behind_calls(modules, "outer")
        assert located(modules, frame) == [
            "[inner] fs/counter.c:6",
            "[middle] fs/counter.c:11",
            "outer fs/counter.c:16",
        ]

    def test_a_return_address_belongs_to_the_call_before_it(self, modules: Path) -> None:
        first, second = frames_behind_calls(modules, "other")
        assert located(modules, first, second) == ["other fs/other.c:5", "other fs/other.c:8"]

    def test_a_return_address_past_the_end_of_the_function_belongs_to_it(self, modules: Path) -> None:
        (frame,) = frames_behind_calls(modules, "ends_with_a_call")
        assert located(modules, frame) == ["ends_with_a_call fs/counter.c:22"]

    def test_the_faulting_instruction_is_looked_up_at_its_own_address(self, modules: Path) -> None:
        first, _ = frames_behind_calls(modules, "other")
        pointer = f"RIP: 0010:other+{first.offset:#x}/{first.size:#x} [lab_counter]"
        assert located(modules, first, text=pointer) == ["other fs/other.c:8"]

    def test_functions_of_other_sections_are_found(self, modules: Path) -> None:
        (frame,) = frames_behind_calls(modules, "at_start")
        assert located(modules, frame) == ["at_start fs/counter.c:27"]

    def test_a_part_that_was_split_off_is_found(self, modules: Path) -> None:
        places = located(modules, *frames_behind_calls(modules, "rarely.cold"))
        assert set(places) == {"rarely.cold fs/rarely.c:9", "rarely.cold fs/rarely.c:14"}

    def test_all_stacks_are_looked_up_and_the_rest_of_a_finding_stays(self, modules: Path) -> None:
        (frame,) = frames_behind_calls(modules, "outer")
        stack = (frame,)
        before = Finding(FindingKind.KASAN, "t", allocated=stack, freed=stack, last_work=stack, text="x")
        (after,) = with_source_lines([before], [modules])
        assert {len(part) for part in (after.allocated, after.freed, after.last_work)} == {3}
        assert replace(after, allocated=stack, freed=stack, last_work=stack) == before

    def test_a_guess_of_the_unwinder_gets_its_line_but_no_inlined_functions(self, modules: Path) -> None:
        (frame,) = frames_behind_calls(modules, "outer")
        assert located(modules, replace(frame, reliable=False)) == ["outer fs/counter.c:16"]

    def test_doing_it_twice_changes_nothing(self, modules: Path) -> None:
        (frame,) = frames_behind_calls(modules, "outer")
        once = with_source_lines([Finding(FindingKind.KASAN, "t", frames=(frame,))], [modules])
        assert with_source_lines(once, [modules]) == once

    def test_the_frames_of_a_log_are_looked_up(self, modules: Path) -> None:
        (frame,) = frames_behind_calls(modules, "outer")
        place = f"outer+{frame.offset:#x}/{frame.size:#x} [lab_counter]"
        log = f"BUG: KASAN: use-after-free in {place}\nRead of size 1 at addr 0 by task sh/7\nCall Trace:\n {place}\n"
        (finding,) = with_source_lines(klog.parse(log.encode()), [modules])
        assert finding.frames[-1].source == "fs/counter.c:16"


class TestFramesThatStay:
    @pytest.mark.parametrize(
        "change",
        [
            lambda frame: replace(frame, module=""),
            lambda frame: replace(frame, module="ext4"),
            lambda frame: replace(frame, size=frame.size + 16),
            lambda frame: replace(frame, size=frame.size - 1),
            lambda frame: replace(frame, offset=10**15),
            lambda frame: replace(frame, offset=None, size=None),
            lambda frame: replace(frame, function="outer2"),
            lambda frame: replace(frame, source="elsewhere.c:1"),
        ],
    )
    def test_of_other_modules_and_other_builds(self, modules: Path, change: Callable[[Frame], Frame]) -> None:
        (frame,) = frames_behind_calls(modules, "outer")
        finding = Finding(FindingKind.KASAN, "t", frames=(change(frame),))
        assert with_source_lines([finding], [modules]) == (finding,)

    @pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF\x02\x01\x01" + bytes(200), b"no module"])
    def test_of_files_that_are_no_modules(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.ko").write_bytes(content)
        finding = Finding(FindingKind.KASAN, "t", frames=(Frame("f", 1, 2, "a"),))
        assert with_source_lines([finding], [tmp_path]) == (finding,)

    def test_of_a_module_that_is_cut_off_or_damaged(self, modules: Path, tmp_path: Path) -> None:
        content = (modules / "lab_counter.ko").read_bytes()
        (frame,) = frames_behind_calls(modules, "outer")
        finding = Finding(FindingKind.KASAN, "t", frames=(frame,))
        for length in range(0, len(content), 997):
            (tmp_path / "lab_counter.ko").write_bytes(content[:length] + bytes(len(content) - length))
            assert with_source_lines([finding], [tmp_path])[0].title == "t"

    def test_of_a_module_without_debug_information(self, modules: Path, tmp_path: Path) -> None:
        command("strip", "--strip-debug", "-o", tmp_path / "lab_counter.ko", modules / "lab_counter.ko")
        (frame,) = frames_behind_calls(modules, "outer")
        assert located(tmp_path, frame) == ["outer"]

    def test_of_folders_that_are_not_there(self, tmp_path: Path) -> None:
        finding = Finding(FindingKind.KASAN, "t", frames=(Frame("f", 1, 2, "a"),))
        assert with_source_lines([finding], [tmp_path / "none"]) == (finding,)

    def test_a_function_that_a_module_has_twice_is_left_alone(self, modules: Path, tmp_path: Path) -> None:
        twin = "extern void touch(int *);\nstatic int __attribute__((used)) twin(int *p) { touch(p); return *p; }\n"
        compile_module(tmp_path, "lab_counter", DWARF[1], one=twin, two=twin)
        size = kernel_size(tmp_path / "lab_counter.ko", "twin")
        assert located(tmp_path, Frame("twin", 9, size, "lab_counter")) == ["twin"]

    def test_a_module_that_was_rebuilt_is_read_again(self, tmp_path: Path) -> None:
        compile_module(tmp_path, "lab_counter", DWARF[1], other=OTHER_C)
        first, _ = frames_behind_calls(tmp_path, "other")
        assert located(tmp_path, first) == ["other fs/other.c:5"]
        compile_module(tmp_path, "lab_counter", DWARF[1], other="\n\n/* longer */\n" + OTHER_C)
        assert located(tmp_path, first) == ["other fs/other.c:8"]
