# SPDX-License-Identifier: GPL-2.0-only
"""What ``harness bisect-config`` does, apart from the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.bisect import kept, trial
from harness.bisect.command import Tools, verdict
from harness.bisect.config import Config, Difference, differences, fragment, mixed
from harness.bisect.records import Observation, Shown
from harness.bisect.trial import Trial
from harness.core import delta_debugging
from harness.core.cache import content_key
from harness.core.errors import UserError
from harness.core.files import write_atomically
from harness.core.progress import say
from harness.core.text import without_control_characters
from harness.kbuild import kconfig
from harness.runner.lab import Lab
from harness.runner.runs import RunFolder
from harness.runner.settings import Settings

#: The file in a run's folder that has every test.
RECORD = "bisect-config.json"


@dataclass(frozen=True)
class Tested:
    """A mixture of the two configurations that was tested.

    Attributes:
        taken: the options that it has from the bad configuration.
        seen: whether it showed the bug.
        title: the finding, or why the mixture cannot be tested.
        seconds: wall time, building included.
    """

    taken: tuple[str, ...]
    seen: Shown
    title: str
    seconds: float


class Configurations:
    """Tests mixtures of two configurations; those that become the same configuration only once.

    Args:
        tools: what they are run with.
        run: the run's folder; gets the configurations and a record of the tests.
        title: the finding's title; empty for what is documented of the test case.
        runs: how many runs must not show the bug before a configuration counts as good.
        good, bad: the two files.
    """

    def __init__(self, tools: Tools, run: RunFolder, title: str, runs: int, good: Path, bad: Path) -> None:
        self._tools = tools
        self._run = run
        self._runs = runs
        self.tested: list[Tested] = []
        self._known: dict[str, Observation] = {}
        settings = tools.settings
        bug = trial.target_bug(settings.project, tools.file, title)
        case = kept.case_digest(settings.project, tools.case)
        self._trial = Trial(self._settings_of, settings.cache, run, bug, case, tools.run_cases)
        self.good, self.bad = (self._complete(_read(file)) for file in (good, bad))

    def find(self) -> tuple[Difference, ...]:
        """The options that make the difference.

        Raises:
            UserError: the two configurations do not differ, or not as they should.
        """
        options = differences(self.good, self.bad)
        if not options:
            raise UserError("the two configurations are the same after make olddefconfig", "compare them with diff")
        say(f"{len(options)} options differ")
        with self._trial:
            self._expect((), Shown.NO, "good")
            self._expect(options, Shown.YES, "bad")
            return delta_debugging.least(options, lambda some: self.observe(some).seen is Shown.YES)

    def effective(self, options: Sequence[Difference]) -> tuple[Difference, ...]:
        """What changes in the good configuration with some options of the bad one: others may depend on them."""
        return differences(self.good, self._complete(mixed(self.good, options)))

    def observe(self, taken: Sequence[Difference]) -> Observation:
        """Whether a mixture shows the bug."""
        config = self._complete(mixed(self.good, taken))
        name = self._write(config)
        if name not in self._known:
            *_, observation = self._trial.until_shown(name, self._runs)
            self._known[name] = observation
            options = tuple(difference.option for difference in taken)
            self.tested.append(Tested(options, observation.seen, observation.title, observation.seconds))
            line = f"{len(options)} options of the bad configuration: {verdict(observation)}"
            say(without_control_characters(line))
            write_atomically(self._run.path / RECORD, config_json(self.tested, (), ()))
        return self._known[name]

    def _expect(self, taken: Sequence[Difference], expected: Shown, which: str) -> None:
        observation = self.observe(taken)
        if observation.seen is not expected:
            raise UserError(
                f"the {which} configuration is not {which}: it {verdict(observation)}",
                f"see {self._run.path}; more runs with --runs",
            )

    def _complete(self, config: Config) -> dict[str, str]:
        name = self._write(config)
        return Lab(self._settings_of(name), self._run.path).complete_config()

    def _write(self, config: Config) -> str:
        text = fragment(dict(sorted(config.items())))
        name = content_key([text])
        file = self._file(name)
        file.parent.mkdir(exist_ok=True)
        if not file.exists():
            write_atomically(file, text)
        return name

    def _file(self, name: str) -> Path:
        return self._run.path / "configs" / f"{name}.config"

    def _settings_of(self, name: str) -> Settings:
        return replace(self._tools.settings, config=self._file(name))


def _read(file: Path) -> dict[str, str]:
    try:
        config = dict(kconfig.parse_config(file.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read: {error}", "give a kernel's .config") from error
    if not config:
        raise UserError(f"{file}: has no options", "give a kernel's .config")
    return config


def config_json(tested: Sequence[Tested], options: Sequence[Difference], effective: Sequence[Difference]) -> str:
    """The text of ``bisect-config.json``."""
    record: dict[str, Any] = {
        "options": [asdict(option) for option in options],
        "effective": [asdict(option) for option in effective],
        "tests": [asdict(one) for one in tested],
    }
    return json.dumps(record, indent=1) + "\n"


def bisect_config_files(good: Path, bad: Path, tools: Tools, run: RunFolder, title: str, runs: int) -> str:
    """Find the options that make the difference; returns the text of the record.

    Raises:
        UserError: the two configurations do not differ, or not as they should.
        LabError: the lab broke.
    """
    configurations = Configurations(tools, run, title, runs, good, bad)
    options = configurations.find()
    text = config_json(configurations.tested, options, configurations.effective(options))
    write_atomically(run.path / RECORD, text)
    return text
