# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel is known for, told from what is new."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.catalog.known import KnownBugs, Recognised, known, load_known_bugs
from harness.core.model import (
    Finding,
    FindingKind,
    Fix,
    FixOnKernel,
    Job,
    Outcome,
    Presence,
    Signature,
)
from harness.core.typed_json import decoded
from harness.report.known import known_bugs, known_summary
from harness.tests.records import finding, result, suspect

CHECKOUT = Path(__file__).parents[2]
KERNEL = "fake"
CRASH = finding("KASAN: use-after-free Read in f", FindingKind.KASAN, "f", "g")
WARNING = finding("WARNING in w", FindingKind.WARNING, "w", "g")
HANG = finding("INFO: task hung in h", FindingKind.HUNG_TASK, "h")
LEAK = finding("memory leak in l", FindingKind.MEMORY_LEAK, "l")
OTHER = finding("KASAN: use-after-free Write in other", FindingKind.KASAN, "other")
OTHER_HANG = finding("INFO: task hung in other", FindingKind.HUNG_TASK, "other")
LOST = "it is lost, at N = 5"


SUSPECTS = (
    suspect("crash", Signature((CRASH.title,), ("g",)), Signature(assertion="^it crashes")),
    suspect("warning", Signature((WARNING.title,))),
    suspect("hang", Signature((HANG.title,))),
    suspect("leak", Signature((LEAK.title,))),
    suspect("lost", Signature(assertion=r"^it is lost, at N = \d+$")),
    suspect("elsewhere", Signature((OTHER.title,)), kernels=("elsewhere",)),
)


class TestKnown:
    @pytest.mark.parametrize(
        ("seen", "name"),
        [
            (CRASH, "crash"),
            (replace(CRASH, frames=CRASH.frames[:1]), None),
            (replace(CRASH, frames=(), freed=CRASH.frames), "crash"),
            (replace(CRASH, title=OTHER.title), None),
            (replace(CRASH, title="KASAN: bad access", alt_titles=(CRASH.title,)), "crash"),
            ("it crashes at once", "crash"),
            ("then it crashes at once", None),
            (LOST, "lost"),
            (f"{LOST}, and more", None),
            # A suspect of another kernel.
            (OTHER, None),
        ],
    )
    def test_title_frames_and_message_must_fit(self, seen: Finding | str, name: str | None) -> None:
        assert known(seen, KERNEL, (), SUSPECTS) == name

    @pytest.mark.parametrize(
        ("presence", "name"),
        [(Presence.MISSING, "lost-put"), (Presence.PRESENT, None), (Presence.NOT_APPLICABLE, None)],
    )
    def test_a_fix_is_known_where_it_is_missing(self, fix: Fix, presence: Presence, name: str | None) -> None:
        fix = replace(fix, kernels={KERNEL: FixOnKernel(presence)}, signature=Signature((CRASH.title,)))
        assert known(CRASH, KERNEL, (fix,), ()) == name
        assert known(CRASH, "other", (fix,), ()) is None

    def test_the_documented_fix_goes_before_a_suspect(self, fix: Fix) -> None:
        fix = replace(fix, kernels={KERNEL: FixOnKernel(Presence.MISSING)}, signature=Signature((CRASH.title,)))
        assert known(CRASH, KERNEL, (fix,), SUSPECTS) == "lost-put"


class TestRecognised:
    BUGS = KnownBugs(suspects=SUSPECTS)

    @pytest.mark.parametrize(
        ("findings", "problems", "names", "new"),
        [
            ((), (), (), ()),
            ((CRASH, CRASH), (), ("crash",), ()),
            ((OTHER,), (LOST,), ("lost",), (OTHER.title,)),
            # What comes before is no consequence.
            ((OTHER, CRASH), (), ("crash",), (OTHER.title,)),
            ((CRASH, OTHER, LEAK), ("a row is left",), ("crash", "leak"), ()),
            ((WARNING, OTHER), (), ("warning",), (OTHER.title,)),
            ((WARNING,), ("a row is left",), ("warning",), ("a row is left",)),
            ((LEAK,), ("a row is left",), ("leak",), ("a row is left",)),
            ((HANG, OTHER_HANG), ("a row is left",), ("hang",), ()),
            ((HANG, OTHER), (), ("hang",), (OTHER.title,)),
            ((replace(OTHER, suppressed=True),), (), (), ()),
            ((), (LOST, "a row is left", "a row is left"), ("lost",), ("a row is left",)),
            ((), ("it is odd\nassert 1 == 2",), (), ("it is odd",)),
        ],
    )
    def test_consequences_of_what_is_known_are_not_new(
        self, findings: tuple[Finding, ...], problems: tuple[str, ...], names: tuple[str, ...], new: tuple[str, ...]
    ) -> None:
        assert self.BUGS.recognise(Job("case", KERNEL), findings, problems) == Recognised(names, new)

    @pytest.mark.parametrize(("overdue", "new"), [(True, ()), (False, (OTHER_HANG.title, "a row is left"))])
    def test_a_known_command_that_did_not_end_explains_hangs(self, overdue: bool, new: tuple[str, ...]) -> None:
        recognised = self.BUGS.recognise(Job("case", KERNEL), (OTHER_HANG,), (LOST, "a row is left"), overdue)
        assert recognised == Recognised(("lost",), new)

    def test_a_fix_that_is_applied_is_not_missing(self, fix: Fix) -> None:
        fix = replace(fix, kernels={KERNEL: FixOnKernel(Presence.MISSING)}, signature=Signature((CRASH.title,)))
        bugs = KnownBugs((fix,))
        assert bugs.recognise(Job("case", KERNEL), (CRASH,), ()) == Recognised((fix.name,))
        applied = Job("case", KERNEL, applied=(fix.name,))
        assert bugs.recognise(applied, (CRASH,), ()) == Recognised((), (CRASH.title,))


class TestResults:
    def test_a_result_shows_nothing_new_where_all_of_it_is_known(self) -> None:
        crashed = result(Outcome.CRASH, CRASH)
        assert not crashed.nothing_new
        assert replace(crashed, known=("crash",)).nothing_new
        assert not replace(crashed, known=("crash",), new=(OTHER.title,)).nothing_new
        assert not result(Outcome.LAB_ERROR).nothing_new
        assert result().nothing_new

    def test_known_bugs_are_named_and_counted(self) -> None:
        both = result(Outcome.CRASH, CRASH, known=("crash", "lost"))
        more = result(Outcome.CRASH, OTHER, known=("crash",), new=(OTHER.title,))
        assert [known_bugs(one) for one in (result(), both, more)] == [
            "",
            "known: crash, lost",
            "known: crash; and something new",
        ]
        assert known_summary([both, result(), more]) == "known: crash 2x, lost 1x"
        assert known_summary([result()]) == ""


#: Seen in guests of the stock kernels: what was seen, on which kernel, and under which name it is on record.
SEEN = json.loads((Path(__file__).parent / "data/known_bugs.json").read_text())


@pytest.fixture(scope="module")
def on_record() -> KnownBugs:
    return load_known_bugs(CHECKOUT)


@pytest.mark.parametrize("seen", SEEN, ids=lambda seen: f"{seen['name']} on {seen['kernel']}")
def test_what_stock_kernels_have_shown_is_known_there(on_record: KnownBugs, seen: dict[str, Any]) -> None:
    what = decoded(Finding, seen["finding"]) if "finding" in seen else seen["problem"]
    assert known(what, seen["kernel"], on_record.fixes, on_record.suspects) == seen["name"]
    assert known(what, "another", on_record.fixes, on_record.suspects) is None


@pytest.mark.parametrize("kernel", ["debian-6.1", "debian-6.12"])
def test_what_a_kernel_shows_without_a_fix_that_it_has_is_new(on_record: KnownBugs, kernel: str) -> None:
    for fix in on_record.fixes:
        if fix.on(kernel).presence is Presence.PRESENT:
            for title in fix.signature.titles:
                seen = finding(title, FindingKind.KASAN, *fix.signature.frames)
                assert known(seen, kernel, on_record.fixes, on_record.suspects) is None, fix.name
