# SPDX-License-Identifier: GPL-2.0-only
"""``kernels/*.yaml``: the kernels that they become, and the messages about malformed ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.catalog import kernels, spec
from harness.core.errors import UserError
from harness.core.model import Kernel, Presence, SourceKind
from harness.tests.fake_project import FIX, KERNEL, kernel_facts

CHECKOUT = Path(__file__).parents[2]


class TestKernels:
    def test_a_kernel_has_its_fragments_in_order(self, project: Path) -> None:
        (project / "kernels/fragments/more.config").write_text("CONFIG_A=y\n")
        file = project / "kernels" / f"{KERNEL}.yaml"
        file.write_text(file.read_text().replace("[base]", "[more, base]"))
        kernel = kernels.load_kernel(project, KERNEL)
        assert [fragment.name for fragment in kernel.fragments] == ["more.config", "base.config"]

    def test_a_kernel_may_come_from_a_package(self, project: Path) -> None:
        text = "source: {debian-package: linux-source-6.1}\nfragments: [base]\nmodules: [fs/erofs]\n"
        (project / "kernels/packaged.yaml").write_text(text)
        source = kernels.load_kernel(project, "packaged").source
        assert (source.kind, source.where) == (SourceKind.DEBIAN_PACKAGE, "linux-source-6.1")

    def test_companions_have_a_name_together(self, project: Path) -> None:
        assert kernels.load_kernel(project, KERNEL).companions == {"nfs": ("net/sunrpc", "fs/nfs")}

    def test_an_unknown_kernel_is_refused_with_the_known_ones(self, project: Path) -> None:
        with pytest.raises(UserError, match="no kernel named 'six'") as caught:
            kernels.load_kernel(project, "six")
        assert KERNEL in caught.value.next_step

    def test_an_unknown_fragment_is_refused_with_the_known_ones(self, project: Path) -> None:
        (project / f"kernels/{KERNEL}.yaml").write_text(kernel_facts(project).replace("[base]", "[bass]"))
        with pytest.raises(UserError, match="no fragment named 'bass'") as caught:
            kernels.load_kernel(project, KERNEL)
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
            kernels.load_kernel(project, "bad")
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
        return kernels.load_kernel(project, name)

    def test_what_a_kernel_lacks_it_has_from_the_one_that_it_extends(self, project: Path) -> None:
        theirs = kernels.load_kernel(project, KERNEL)
        assert self.kernel(project, f"extends: {KERNEL}\n") == replace(theirs, name="my")

    def test_its_own_keys_replace_those_of_the_other(self, project: Path) -> None:
        text = f"extends: {KERNEL}\nsource: {{tree: elsewhere}}\nfragments: [more]\ncompanions: {{}}\n"
        mine = self.kernel(project, text)
        assert mine.source.where == "elsewhere"
        assert [fragment.stem for fragment in mine.fragments] == ["more"]
        assert mine.companions == {}
        assert mine.modules == kernels.load_kernel(project, KERNEL).modules

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


@pytest.mark.parametrize("name", sorted(file.stem for file in (CHECKOUT / "kernels").glob("*.yaml")))
def test_each_kernel_of_the_checkout_is_well_formed(name: str) -> None:
    assert kernels.load_kernel(CHECKOUT, name).modules
