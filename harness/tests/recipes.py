# SPDX-License-Identifier: GPL-2.0-only
"""The recipes of CONTRIBUTING.md, so that tests can follow them to the letter.

A recipe is a section. What it tells the reader to write stands in fenced blocks whose info string names a language
and, where the block is a file, that file's path in the project: ``yaml kernels/my.yaml``. What it tells the reader
to run stands in blocks of the language ``sh``, one command a line.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a recipe.

    Attributes:
        language: as the info string names it.
        file: path in the project of what the block contains, empty where it names none.
        text: what stands between the fences.
    """

    language: str
    file: str
    text: str


def blocks(title: str) -> tuple[Block, ...]:
    """The fenced blocks of a section of CONTRIBUTING.md, in order.

    Args:
        title: the section's heading, without ``##``.
    """
    _, heading, rest = CONTRIBUTING.read_text().partition(f"\n## {title}\n")
    assert heading, f"CONTRIBUTING.md has no section {title!r}"
    found = tuple(Block(*match.groups("")) for match in _BLOCK.finditer(rest.partition("\n## ")[0]))
    assert found, f"the section {title!r} has no fenced blocks"
    return found


def write_files(title: str, project: Path) -> list[str]:
    """Write the files of a recipe below a copy of the project; returns their paths in it."""
    files = [block for block in blocks(title) if block.file]
    for block in files:
        target = project / block.file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block.text)
    return [block.file for block in files]


def commands(title: str) -> list[list[str]]:
    """The commands of a recipe, each as its words; what stands after ``#`` is a comment."""
    lines = [line for block in blocks(title) if block.language == "sh" for line in block.text.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]
