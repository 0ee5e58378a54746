# SPDX-License-Identifier: GPL-2.0-only
"""YAML files: the records that they become, and the messages about malformed ones."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from harness.catalog import spec
from harness.core.errors import UserError
from harness.core.model import ExpectedReport, FixOnKernel, Presence, ReproductionClass, Verdict
from harness.tests.fake_project import FIX, FIX_FACTS, IMAGE, KERNEL, TITLE

CHECKOUT = Path(__file__).parents[2]


def fix_file(project: Path) -> Path:
    return project / "testcases/fixes" / FIX / "fix.yaml"


class TestImages:
    def test_an_image_has_packages_and_an_overlay(self, project: Path) -> None:
        image = spec.load_image(project, "minimal")
        assert image.packages == ("busybox-static",)
        assert image.overlay == project / "images/overlay"
        assert image.scratch_mib == 64

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("packages: []\n", "key 'packages'"),
            ("packages: [Busy Box]\n", r"key 'packages\.0'.*found 'Busy Box'"),
            ("packages: ['--hook=evil']\n", r"key 'packages\.0'"),
            (IMAGE.replace("64", "1"), "key 'scratch-mib'.*found 1"),
            (IMAGE + "overlay: nowhere\n", "key 'overlay': there is no folder"),
        ],
    )
    def test_a_malformed_image_is_named_with_file_and_key(self, project: Path, text: str, complaint: str) -> None:
        file = project / "images/minimal.yaml"
        file.write_text(text)
        with pytest.raises(UserError, match=complaint) as caught:
            spec.load_image(project, "minimal")
        assert str(file) in caught.value.message


class TestFixes:
    def test_a_fix_has_the_facts_of_its_file(self, project: Path) -> None:
        fix = spec.load_fix(project, FIX)
        assert fix.commit == "0123456789ab"
        assert fix.reproduction is ReproductionClass.DETERMINISTIC
        assert fix.signature.titles == (TITLE,)
        assert fix.revert_patch.is_file()
        assert [test.name for test in fix.tests] == ["test_lost_put.py"]

    def test_a_signature_may_name_several_reports_of_which_one_comes(self, project: Path) -> None:
        text = """any-of:
              - {titles: [t, "t in 6.12"], frames: [f, g], rate: 49 of 50}
              - {titles: [u], frames: [h], rate: 1 of 50}"""
        fix_file(project).write_text(FIX_FACTS.replace(f'titles: ["{TITLE}"]', text))
        signature = spec.load_fix(project, FIX).signature
        assert signature.any_of == signature.reports
        assert signature.reports == (
            ExpectedReport(("t", "t in 6.12"), ("f", "g"), "49 of 50"),
            ExpectedReport(("u",), ("h",), "1 of 50"),
        )

    def test_no_names_mean_all_fixes(self, project: Path) -> None:
        assert [fix.name for fix in spec.load_fixes(project, ())] == [FIX]

    def test_an_unknown_fix_is_refused_with_the_known_ones(self, project: Path) -> None:
        with pytest.raises(UserError, match="no fix named 'found-put'") as caught:
            spec.load_fix(project, "found-put")
        assert FIX in caught.value.next_step

    def test_a_name_that_leads_out_of_the_catalogue_is_no_fix(self, project: Path) -> None:
        with pytest.raises(UserError, match="no fix named"):
            spec.load_fix(project, "../../kernels")

    @pytest.mark.parametrize(
        ("before", "after", "complaint"),
        [
            ("0123456789ab", "89ab", "key 'commit'.*found '89ab'"),
            ("commit: 0123456789ab\n", "", "key 'commit': Field required"),
            ("commit: 0123456789ab\n", "commit: 123456789012\n", "key 'commit'.*found 123456789012"),
            ("subsystem: cachefiles", "subsystem: ext4", "key 'subsystem'.*found 'ext4'"),
            ("reproduction: deterministic", "reproduction: luck", "key 'reproduction'.*found 'luck'"),
            (f'titles: ["{TITLE}"]', "frames: [a]", "key 'signature': .*titles of kernel reports"),
            (f'titles: ["{TITLE}"]', "any-of: [{titles: [t], frames: [f]}]", r"any-of\.0\.rate': Field required"),
            (f'titles: ["{TITLE}"]', "any-of: [{titles: [t], frames: [], rate: r}]", r"any-of\.0\.frames'"),
            (f'titles: ["{TITLE}"]', "any-of: [{titles: [t], frames: [f], rate: r}]", "any-of needs two reports"),
            (f'titles: ["{TITLE}"]', "titles: [a]\n  any-of: [{titles: [t], frames: [f], rate: r}]", "not both"),
            ("{binds: 1}", "{}", "key 'path-counters'"),
            ("{binds: 1}", "{binds: many}", r"key 'path-counters\.binds'.*found 'many'"),
            ("path-counters", "path_counters", "key 'path-counters': Field required"),
            ("files: [fs/cachefiles/cache.c]", "files: []", "key 'files'"),
            ("subsystem:", "cve: 2024-1\nsubsystem:", "key 'cve'.*found '2024-1'"),
            ("subsystem:", "options: [CONFIG_KASAN]\nsubsystem:", r"key 'options' belongs to the test cases now"),
            ("subsystem:", "colour: red\nsubsystem:", "key 'colour': Extra"),
            ("subsystem:", "taken-out-with: [a]\nsubsystem:", "key 'taken-out-with' is called reverted-with now"),
        ],
    )
    def test_a_malformed_fix_is_named_with_file_and_key(
        self, project: Path, before: str, after: str, complaint: str
    ) -> None:
        assert before in FIX_FACTS
        fix_file(project).write_text(FIX_FACTS.replace(before, after))
        with pytest.raises(UserError, match=complaint) as caught:
            spec.load_fix(project, FIX)
        assert str(fix_file(project)) in caught.value.message

    @pytest.mark.parametrize(("former", "now"), [("unfix", "revert"), ("fix", "apply")])
    def test_a_semantic_patch_with_its_former_name_is_refused(self, project: Path, former: str, now: str) -> None:
        file = project / f"testcases/fixes/{FIX}/{former}.cocci"
        (project / f"testcases/fixes/{FIX}/revert.cocci").rename(file)
        with pytest.raises(UserError) as caught:
            spec.load_fix(project, FIX)
        assert str(caught.value) == f"{file}: this file is called {now}.cocci now\n  next: rename it"

    @pytest.mark.parametrize("name", spec.fix_names(CHECKOUT))
    def test_each_fix_of_the_catalogue_is_well_formed(self, name: str) -> None:
        fix = spec.load_fix(CHECKOUT, name)
        assert fix.revert_patch.is_file()
        assert set(fix.reverted_with) <= set(spec.fix_names(CHECKOUT))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"packages: [a\n", "is not valid YAML"),
        (b"packages: \xff\n", "is not valid YAML"),
        (b"packages: !!python/object:os.system {}\n", "is not valid YAML"),
        (b"\tpackages: []\n", "is not valid YAML"),
        (b"- a\n", "expected keys and values, found list"),
        (b"", "expected keys and values, found NoneType"),
        (b"text", "expected keys and values, found str"),
    ],
)
def test_a_file_that_is_no_mapping_is_named(project: Path, content: bytes, complaint: str) -> None:
    file = project / "images/minimal.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=complaint) as caught:
        spec.load_image(project, "minimal")
    assert str(file) in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", sorted(file.stem for file in (CHECKOUT / "images").glob("*.yaml")))
def test_each_image_of_the_checkout_is_well_formed(name: str) -> None:
    assert spec.load_image(CHECKOUT, name).packages


SUPPRESSION = {"title": "WARNING in .*", "reason": "the emulator", "expires": "2027-01-31"}


class TestSuppressions:
    def written(self, folder: Path, text: str) -> Path:
        file = folder / "suppressions.yaml"
        file.write_text(text)
        return file

    def test_an_entry(self, tmp_path: Path) -> None:
        file = self.written(tmp_path, "- {title: 'a.*', reason: b, expires: 2027-01-31, kernel: '6.1.*'}\n")
        (suppression,) = spec.load_suppressions(file)
        assert (suppression.title, suppression.reason, suppression.kernel) == ("a.*", "b", "6.1.*")
        assert suppression.expires == datetime.date(2027, 1, 31)

    @pytest.mark.parametrize("text", ["", "# only a comment\n", "[]\n"])
    def test_a_file_may_be_empty(self, tmp_path: Path, text: str) -> None:
        assert spec.load_suppressions(self.written(tmp_path, text)) == ()

    def test_a_file_need_not_be_there(self, tmp_path: Path) -> None:
        assert spec.load_suppressions(tmp_path / "none.yaml") == ()

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"title": None}, "entry 2: key 'title'"),
            ({"title": "'('"}, "entry 2: key 'title': .*not a regular expression"),
            ({"reason": "''"}, "entry 2: key 'reason'"),
            ({"expires": "soon"}, "entry 2: key 'expires': .*date.*found 'soon'"),
            ({"expires": "2027"}, "entry 2: key 'expires'"),
            ({"expires": "2027-02-31"}, "not valid YAML"),
            ({"until": "2027-01-01"}, "entry 2: key 'until': Extra"),
        ],
    )
    def test_a_malformed_entry_is_named_with_file_entry_and_key(
        self, tmp_path: Path, change: dict[str, str | None], complaint: str
    ) -> None:
        good = ", ".join(f"{key}: {value}" for key, value in SUPPRESSION.items())
        bad = ", ".join(f"{key}: {value}" for key, value in {**SUPPRESSION, **change}.items() if value is not None)
        file = self.written(tmp_path, f"- {{{good}}}\n- {{{bad}}}\n")
        with pytest.raises(UserError, match=complaint) as caught:
            spec.load_suppressions(file)
        assert str(file) in caught.value.message

    @pytest.mark.parametrize(
        ("text", "complaint"), [("a: b\n", "expected a list"), ("- a\n", "entry 1: expected keys")]
    )
    def test_something_else_is_refused(self, tmp_path: Path, text: str, complaint: str) -> None:
        with pytest.raises(UserError, match=complaint):
            spec.load_suppressions(self.written(tmp_path, text))

    def test_the_checkouts_own_file_and_its_example_are_valid(self, tmp_path: Path) -> None:
        text = (CHECKOUT / spec.SUPPRESSIONS).read_text()
        assert spec.load_suppressions(CHECKOUT / spec.SUPPRESSIONS) == ()
        example = "\n".join(line[2:] for line in text.partition("#\n")[2].splitlines())
        assert len(spec.load_suppressions(self.written(tmp_path, example))) == 1


class Collected:
    """A plugin for pytest that remembers what it would run."""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.names = [item.nodeid for item in session.items]


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "count"), [("testcases", 0), ("testcases/suspects", 3)])
def test_suspicions_are_tested_only_where_their_folder_is_named(folder: str, count: int) -> None:
    collected = Collected()
    words = ["--collect-only", "-q", f"--rootdir={CHECKOUT}", "-p", "no:cacheprovider"]
    assert pytest.main([*words, str(CHECKOUT / folder)], plugins=[collected]) == pytest.ExitCode.OK
    suspicious = [name for name in collected.names if name.startswith("testcases/suspects/")]
    assert len(collected.names) > len(suspicious) or count
    assert len(suspicious) >= count
    assert bool(count) == bool(suspicious)


def test_the_json_schema_for_editors_is_that_of_the_code() -> None:
    file = CHECKOUT / "testcases/fixes/fix.schema.json"
    assert file.read_text() == spec.fix_json_schema(), "write it anew: python ci/write_catalogue.py"


@pytest.mark.parametrize("name", spec.fix_names(CHECKOUT))
def test_each_fix_names_only_kernels_that_there_are_and_its_schema(name: str) -> None:
    fix = spec.load_fix(CHECKOUT, name)
    known = {file.stem for file in (CHECKOUT / "kernels").glob("*.yaml")}
    assert set(fix.kernels) <= known
    assert "$schema=../fix.schema.json" in (fix.folder / "fix.yaml").read_text().splitlines()[0]


class TestFixOnKernels:
    def known(self, project: Path, text: str) -> FixOnKernel:
        file = project / "testcases/fixes" / FIX / "fix.yaml"
        file.write_text(file.read_text().replace(f"{{{KERNEL}: present}}", f"{{{KERNEL}: {text}}}"))
        return spec.load_fix(project, FIX).on(KERNEL)

    def test_a_word_alone_is_the_presence(self, project: Path) -> None:
        assert self.known(project, "missing") == FixOnKernel(Presence.MISSING)

    def test_a_fix_that_does_not_apply_has_that_verdict(self, project: Path) -> None:
        known = self.known(project, "{presence: not applicable, reason: no such code}")
        assert known == FixOnKernel(Presence.NOT_APPLICABLE, Verdict.NOT_APPLICABLE, "no such code")

    def test_a_kernel_that_is_not_listed_is_taken_to_have_it(self, project: Path) -> None:
        assert spec.load_fix(project, FIX).on("other") == FixOnKernel()

    @pytest.mark.parametrize("text", ["not applicable", "{verdict: not reproduced}", "perhaps"])
    def test_what_is_not_explained_or_unknown_is_refused(self, project: Path, text: str) -> None:
        with pytest.raises(UserError, match=rf"key 'kernels\.{KERNEL}"):
            self.known(project, text)
