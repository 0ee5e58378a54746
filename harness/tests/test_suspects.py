# SPDX-License-Identifier: GPL-2.0-only
"""``suspect.yaml``: what it becomes, and what is said about malformed ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.catalog import spec
from harness.catalog.selection import selected
from harness.catalog.suspects import (
    load_suspect,
    load_suspects,
    suspect_json_schema,
    suspect_names,
)
from harness.core.errors import UserError
from harness.core.model import Signature, SuspectState
from harness.report.suspects import suspects_markdown

CHECKOUT = Path(__file__).parents[2]
NAME = "lost-get"
FACTS = """\
title: A get is lost
subsystem: cachefiles
state: unconfirmed
kernels: {fake: shown, other: not shown}
signatures:
  - {titles: [WARNING in f], frames: [g]}
  - {assertion: "^it is lost"}
found-by: reading
"""


def written(project: Path, text: str = FACTS) -> Path:
    file = project / "testcases/suspects" / NAME / "suspect.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


class TestLoading:
    def test_a_suspect_has_the_facts_of_its_file(self, tmp_path: Path) -> None:
        folder = written(tmp_path).parent
        suspect = load_suspect(tmp_path, NAME)
        assert (suspect.name, suspect.folder, suspect.title) == (NAME, folder, "A get is lost")
        assert (suspect.state, suspect.reference) == (SuspectState.UNCONFIRMED, "")
        assert suspect.signatures == (Signature(("WARNING in f",), ("g",)), Signature(assertion="^it is lost"))
        assert load_suspects(tmp_path) == (suspect,)

    @pytest.mark.parametrize(("kernel", "shows"), [("fake", True), ("other", False), ("unlisted", False)])
    def test_only_a_kernel_that_showed_it_has_it(self, tmp_path: Path, kernel: str, shows: bool) -> None:
        written(tmp_path)
        assert load_suspect(tmp_path, NAME).shows_on(kernel) is shows

    def test_a_kernel_that_extends_one_with_its_source_has_the_same(self, tmp_path: Path) -> None:
        written(tmp_path)
        (tmp_path / "kernels").mkdir()
        for name, text in {"slow": "extends: fake\n", "mine": "extends: fake\nsource: {tree: /linux}\n"}.items():
            (tmp_path / f"kernels/{name}.yaml").write_text(text)
        (tmp_path / "kernels/fake.yaml").write_text("source: {tree: /fake}\n")
        suspect = load_suspect(tmp_path, NAME)
        assert (suspect.shows_on("slow"), suspect.shows_on("mine")) == (True, False)

    def test_an_unknown_one_is_refused_with_the_known_ones(self, tmp_path: Path) -> None:
        written(tmp_path)
        with pytest.raises(UserError, match="no suspect named 'other'") as caught:
            load_suspect(tmp_path, "other")
        assert caught.value.next_step == f"known: {NAME}"

    def test_a_checkout_without_suspects_has_none(self, tmp_path: Path) -> None:
        assert load_suspects(tmp_path) == ()

    @pytest.mark.parametrize(
        ("before", "after", "complaint"),
        [
            ("title: A get is lost\n", "", "key 'title': Field required"),
            ("subsystem: cachefiles", "subsystem: ext4", "key 'subsystem'.*found 'ext4'"),
            ("state: unconfirmed", "state: certain", "key 'state'.*found 'certain'"),
            ("state: unconfirmed", "state: reported", "a suspect that is reported needs a reference"),
            ("state: unconfirmed", "state: fixed upstream", "a suspect that is fixed upstream needs a reference"),
            ("fake: shown", "fake: perhaps", r"key 'kernels\.fake'.*found 'perhaps'"),
            ("{fake: shown, other: not shown}", "{}", "key 'kernels'"),
            ('"^it is lost"', '"^it is (lost"', r"key 'signatures\.1\.assertion'.*not a regular expression"),
            ("titles: [WARNING in f], ", "", r"key 'signatures\.0': .*titles of kernel reports"),
            ("found-by: reading\n", "", "key 'found-by': Field required"),
            ("found-by: reading\n", "found-by: reading\ncolour: red\n", "key 'colour': Extra"),
        ],
    )
    def test_a_malformed_one_is_named_with_file_and_key(
        self, tmp_path: Path, before: str, after: str, complaint: str
    ) -> None:
        assert before in FACTS
        file = written(tmp_path, FACTS.replace(before, after))
        with pytest.raises(UserError, match=complaint) as caught:
            load_suspects(tmp_path)
        assert str(file) in caught.value.message


class TestCheckout:
    @pytest.mark.parametrize("name", suspect_names(CHECKOUT))
    def test_each_has_facts_a_test_case_and_a_report(self, name: str) -> None:
        suspect = load_suspect(CHECKOUT, name)
        assert set(suspect.kernels) <= {file.stem for file in (CHECKOUT / "kernels").glob("*.yaml")}
        assert [file.name for file in suspect.folder.glob("test_*.py")] == [f"test_{name.replace('-', '_')}.py"]
        report = (suspect.folder / "report.txt").read_text()
        assert report.startswith(f"Subject: [{suspect.state}] ")
        assert f"harness run testcases/suspects/{name}\n" in report or f"suspects/{name} --kernel" in report

    def test_each_folder_is_a_suspect(self) -> None:
        folders = [path.name for path in (CHECKOUT / "testcases/suspects").iterdir() if path.is_dir()]
        assert sorted(set(folders) - {"__pycache__"}) == list(suspect_names(CHECKOUT))

    def test_no_suspect_has_the_name_of_a_fix(self) -> None:
        assert not set(suspect_names(CHECKOUT)) & set(spec.fix_names(CHECKOUT))

    def test_a_suspect_is_selected_by_its_name(self) -> None:
        assert selected(CHECKOUT, "withdrawn-cookie") == str(CHECKOUT / "testcases/suspects/withdrawn-cookie")

    def test_the_json_schema_for_editors_is_that_of_the_code(self) -> None:
        file = CHECKOUT / "testcases/suspects/suspect.schema.json"
        assert file.read_text() == suspect_json_schema(), "write it again: CONTRIBUTING.md, 'A suspect'"

    def test_the_table_in_the_documentation_is_that_of_the_files(self) -> None:
        text = suspects_markdown(load_suspects(CHECKOUT))
        assert (CHECKOUT / "docs/suspects.md").read_text() == text, "write it again: CONTRIBUTING.md, 'A suspect'"


def test_the_table_has_the_state_and_where_it_was_reported(tmp_path: Path) -> None:
    written(
        tmp_path,
        FACTS.replace("unconfirmed", "reported\nreference: https://lore.example").replace("fake:", "debian-6.1:"),
    )
    text = suspects_markdown(load_suspects(tmp_path))
    row = (
        "| `lost-get`<br>A get is lost | cachefiles | reported: https://lore.example | shown | not tried | reading |"
    )
    assert row in text
