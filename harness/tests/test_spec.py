# SPDX-License-Identifier: GPL-2.0-only
"""YAML files: the records that they become, and the messages about malformed ones."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import pytest

from harness.catalog import spec
from harness.core.errors import UserError
from harness.core.model import ExpectedReport, FixOnKernel, Kernel, Presence, ReproductionClass, SourceKind, Verdict
from harness.tests.fake_project import FIX, FIX_FACTS, IMAGE, KERNEL, TITLE, kernel_facts

CHECKOUT = Path(__file__).parents[2]


def fix_file(project: Path) -> Path:
    return project / "testcases/fixes" / FIX / "fix.yaml"


class TestKernels:
    def test_a_kernel_has_its_fragments_in_order(self, project: Path) -> None:
        (project / "kernels/fragments/more.config").write_text("CONFIG_A=y\n")
        file = project / "kernels" / f"{KERNEL}.yaml"
        file.write_text(file.read_text().replace("[base]", "[more, base]"))
        kernel = spec.load_kernel(project, KERNEL)
        assert [fragment.name for fragment in kernel.fragments] == ["more.config", "base.config"]

    def test_a_kernel_may_come_from_a_package(self, project: Path) -> None:
        text = "source: {debian-package: linux-source-6.1}\nfragments: [base]\nmodules: [fs/erofs]\n"
        (project / "kernels/packaged.yaml").write_text(text)
        source = spec.load_kernel(project, "packaged").source
        assert (source.kind, source.where) == (SourceKind.DEBIAN_PACKAGE, "linux-source-6.1")

    def test_companions_have_a_name_together(self, project: Path) -> None:
        assert spec.load_kernel(project, KERNEL).companions == {"nfs": ("net/sunrpc", "fs/nfs")}

    def test_an_unknown_kernel_is_refused_with_the_known_ones(self, project: Path) -> None:
        with pytest.raises(UserError, match="no kernel named 'six'") as caught:
            spec.load_kernel(project, "six")
        assert KERNEL in caught.value.next_step

    def test_an_unknown_fragment_is_refused_with_the_known_ones(self, project: Path) -> None:
        (project / f"kernels/{KERNEL}.yaml").write_text(kernel_facts(project).replace("[base]", "[bass]"))
        with pytest.raises(UserError, match="no fragment named 'bass'") as caught:
            spec.load_kernel(project, KERNEL)
        assert "base" in caught.value.next_step

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("fragments: [base]\nmodules: [fs]\n", "key 'source': Field required"),
            ("source: {}\nfragments: [base]\nmodules: [fs]\n", "key 'source': .*exactly one of"),
            ("source: {tree: a, debian-package: b1}\nfragments: [base]\nmodules: [fs]\n", "exactly one of"),
            ("source: {tree: 5}\nfragments: [base]\nmodules: [fs]\n", r"key 'source\.tree': .*string.*found 5"),
            ("source: {git: a}\nfragments: [base]\nmodules: [fs]\n", r"key 'source\.git'"),
            ("source: {debian-package: 'A B'}\nfragments: [base]\nmodules: [fs]\n", "debian-package"),
            ("source: {tree: a}\nfragments: []\nmodules: [fs]\n", "key 'fragments'"),
            ("source: {tree: a}\nfragments: base\nmodules: [fs]\n", "key 'fragments': .*list.*found 'base'"),
            ("source: {tree: a}\nfragments: [base]\n", "key 'modules': Field required"),
            (
                "source: {tree: a}\nfragments: [base]\nmodules: [fs]\nobjects: 1300\n",
                "'objects' has no use any more",
            ),
            ("source: {tree: a}\nfragments: [base]\nmodules: [fs]\ncompanions: {9p: []}\n", r"key 'companions\.9p'"),
            ("source: {tree: a}\nfragments: [base]\nmodules: [fs]\ncompanions: [fs/9p]\n", "key 'companions'"),
            ("source: {tree: a}\nfragments: [base]\nmodules: [fs]\nmoduls: []\n", "key 'moduls': Extra"),
        ],
    )
    def test_a_malformed_kernel_is_named_with_file_and_key(self, project: Path, text: str, complaint: str) -> None:
        file = project / "kernels/bad.yaml"
        file.write_text(text)
        with pytest.raises(UserError, match=complaint) as caught:
            spec.load_kernel(project, "bad")
        assert str(file) in caught.value.message
        assert caught.value.next_step


class TestKernelsThatExtendOthers:
    """``kernels/fake.yaml`` has all keys; the others extend it."""

    @pytest.fixture(autouse=True)
    def _fragments(self, project: Path) -> None:
        for name in ("more", "most"):
            (project / f"kernels/fragments/{name}.config").write_text("CONFIG_A=y\n")

    def kernel(self, project: Path, text: str, name: str = "my") -> Kernel:
        (project / f"kernels/{name}.yaml").write_text(text)
        return spec.load_kernel(project, name)

    def test_what_a_kernel_lacks_it_has_from_the_one_that_it_extends(self, project: Path) -> None:
        theirs = spec.load_kernel(project, KERNEL)
        assert self.kernel(project, f"extends: {KERNEL}\n") == replace(theirs, name="my")

    def test_its_own_keys_replace_those_of_the_other(self, project: Path) -> None:
        text = f"extends: {KERNEL}\nsource: {{tree: elsewhere}}\nfragments: [more]\ncompanions: {{}}\n"
        mine = self.kernel(project, text)
        assert mine.source.where == "elsewhere"
        assert [fragment.stem for fragment in mine.fragments] == ["more"]
        assert mine.companions == {}
        assert mine.modules == spec.load_kernel(project, KERNEL).modules

    def test_added_fragments_come_last_through_a_chain(self, project: Path) -> None:
        self.kernel(project, f"extends: {KERNEL}\nadd-fragments: [more]\n", "one")
        assert [fragment.stem for fragment in self.kernel(project, "extends: one\n", "two").fragments] == [
            "base",
            "more",
        ]
        three = self.kernel(project, "extends: two\nadd-fragments: [most]\n", "three")
        assert [fragment.stem for fragment in three.fragments] == ["base", "more", "most"]

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("extends: six\n", "key 'extends': there is no kernel named 'six'"),
            ("extends: [fake]\n", r"key 'extends': expected a kernel's name, found \['fake'\]"),
            ("extends: my\n", r"key 'extends': my would extend itself \(my -> my\)"),
            ("extends: other\n", r"key 'extends': my would extend itself \(my -> other -> my\)"),
            (f"extends: {KERNEL}\nadd-fragments: more\n", "key 'add-fragments': .*list.*found 'more'"),
            (f"extends: {KERNEL}\nadd-fragments: [less]\n", "no fragment named 'less'"),
            (f"extends: {KERNEL}\nfragments: []\n", "key 'fragments'"),
            (f"extends: {KERNEL}\nextend: {KERNEL}\n", "key 'extend': Extra"),
        ],
    )
    def test_a_kernel_that_makes_no_sense_is_refused(self, project: Path, text: str, complaint: str) -> None:
        (project / "kernels/other.yaml").write_text("extends: my\n")
        with pytest.raises(UserError, match=complaint) as caught:
            self.kernel(project, text)
        assert caught.value.next_step

    def test_an_error_in_the_extended_kernel_is_named_with_its_file(self, project: Path) -> None:
        (project / "kernels/other.yaml").write_text(f"extends: {KERNEL}\nmodules: []\n")
        with pytest.raises(UserError, match=r"other\.yaml: key 'modules'"):
            self.kernel(project, "extends: other\n")

    def test_what_is_known_of_a_fix_holds_where_the_source_is_the_same(self, project: Path) -> None:
        file = project / "testcases/fixes" / FIX / "fix.yaml"
        file.write_text(file.read_text().replace(f"{{{KERNEL}: present}}", f"{{{KERNEL}: missing, listed: present}}"))
        self.kernel(project, f"extends: {KERNEL}\nadd-fragments: [more]\n", "one")
        self.kernel(project, "extends: one\n", "two")
        self.kernel(project, f"extends: {KERNEL}\n", "listed")
        self.kernel(project, f"extends: {KERNEL}\nsource: {{tree: elsewhere}}\n", "other")
        (project / "kernels/broken.yaml").write_text("- a\n")
        fix = spec.load_fix(project, FIX)
        missing = [name for name in ("one", "two", "listed", "other") if fix.on(name).presence is Presence.MISSING]
        assert missing == ["one", "two"]


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


@pytest.mark.parametrize("name", sorted(file.stem for file in (CHECKOUT / "kernels").glob("*.yaml")))
def test_each_kernel_of_the_checkout_is_well_formed(name: str) -> None:
    assert spec.load_kernel(CHECKOUT, name).modules


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
    assert file.read_text() == spec.fix_json_schema(), (
        "write it anew: python -c 'from harness.catalog import spec; print(spec.fix_json_schema(), end=\"\")'"
    )


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
