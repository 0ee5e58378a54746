# SPDX-License-Identifier: GPL-2.0-only
"""The pytest front door: test cases run as plain ``pytest testcases/...``.

A test case asks for the fixture ``guest`` and states how a fixed kernel behaves. What the
kernel log says about it afterwards counts as much as its assertions: a test case whose
assertions hold fails when KASAN or kmemleak reported something.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import pytest

from harness.catalog import needs, spec
from harness.catalog.needs import Need
from harness.core import host
from harness.core.errors import HarnessError, LabError, UserError
from harness.core.model import Job, Outcome, Presence, Result
from harness.core.text import without_control_characters
from harness.report.terminal import result_line
from harness.runner import judge
from harness.runner.case import CaseRun, case_folder, skipped
from harness.runner.lab import Lab
from harness.runner.runs import RunFolder
from harness.runner.settings import Settings
from harness.vm.guest import Guest

_CASE = pytest.StashKey[CaseRun]()
_SETUP_ERROR = pytest.StashKey[BaseException]()
_FIXTURE = "guest"


class LabSession:
    """The lab for one pytest session, as a pytest plugin.

    Args:
        settings: what the user chose.
        reverted: names of the fixes that are reverted.
        applied: names of the fixes that are applied.
        seed: what random choices of the test cases start from.
        repetition: counted from 1.
        lab: a lab to use; where None one is made when the first test case asks for a guest, with a run's folder.
        on_result: called with every result; where None it goes into the run's folder.
        named: the user named the test cases: they run also on a kernel that is known to lack the fix.
        more_to_come: after this session's test cases others need guests of this lab.
    """

    def __init__(
        self,
        settings: Settings,
        reverted: Sequence[str] = (),
        applied: Sequence[str] = (),
        seed: int = 0,
        repetition: int = 1,
        lab: Lab | None = None,
        on_result: Callable[[Result], None] | None = None,
        named: bool = False,
        more_to_come: bool = False,
    ) -> None:
        self.settings = settings
        self.reverted = tuple(reverted)
        self.applied = tuple(applied)
        self.seed = seed
        self.repetition = repetition
        self.named = named
        self.collection_errors: list[str] = []
        self.collected: list[str] = []
        self.results: list[Result] = []
        #: Why a test case has no result: the command has not done what was asked for.
        self.broken: HarnessError | None = None
        self._more_sessions = more_to_come
        self._more_to_come = more_to_come
        self._lab = lab
        self._run: RunFolder | None = None
        self._on_result = on_result

    @property
    def lab(self) -> Lab:
        """The lab."""
        if self._lab is None:
            self._run = RunFolder(self.settings.project)
            self._lab = Lab(self.settings, self._run.path)
            self._run.begin(self._lab.session())
        return self._lab

    def job(self, node: pytest.Item) -> Job:
        """The job of a test case on this session's kernel."""
        image = node.get_closest_marker("image")
        return Job(
            case=_case_name(node, self.settings.project),
            kernel=self.settings.kernel,
            reverted=self.reverted,
            applied=self.applied,
            image=image.args[0] if image else self.settings.image,
            shared_folder=node.get_closest_marker("shared_folder") is not None,
            repetition=self.repetition,
            seed=self.seed,
        )

    def case_run(self, job: Job) -> CaseRun:
        """A job that is about to be done."""
        return CaseRun(self.lab, job, case_folder(self.lab.folder, job), self._more_to_come)

    def obstacle(self, node: pytest.Item) -> str:
        """Why a test case does not run on this kernel; empty where it does.

        Raises:
            UserError: a marker names no need, or no way to the subject.
        """
        try:
            lacking = needs.lacking(_needs_of(node), self.lab.abilities())
        except ValueError as error:
            raise UserError(f"{node.path}: {error}", "correct the marker; see harness/catalog/needs.py") from error
        return f"{self.settings.kernel} has {lacking}" if lacking else self._presence_obstacle(node)

    def _presence_obstacle(self, node: pytest.Item) -> str:
        """Why a fix's test case does not run on a kernel as it is, of which it is known whether it has the fix."""
        folder = node.path.parent
        if self.named or self.reverted or self.applied or not (folder / "fix.yaml").is_file():
            return ""
        known = spec.load_fix(self.settings.project, folder.name).on(self.settings.kernel)
        if known.presence is Presence.MISSING:
            return f"{self.settings.kernel} lacks the fix; harness prove {folder.name} applies it"
        return known.reason if known.presence is Presence.NOT_APPLICABLE else ""

    def record(self, result: Result) -> None:
        """Keep a result, in the run's folder too where this session made it."""
        self.results.append(result)
        session = self.lab.session()
        if self._run is not None:
            self._run.record(result, session)
        if self._on_result:
            self._on_result(result)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Remember which test cases there are."""
        self.collected = [f"{item.path}::{item.nodeid.partition('::')[2]}" for item in session.items]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember test files that cannot be read."""
        if report.failed:
            self.collection_errors.append(report.longreprtext)

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Note whether another guest is needed after this one."""
        items = item.session.items
        later = items[items.index(item) + 1 :]
        self._more_to_come = self._more_sessions or any(map(_needs_guest, later))

    def pytest_keyboard_interrupt(self) -> None:
        """Say in the run's files that it was interrupted."""
        if self._lab is not None and self._run is not None:
            self._run.finish(self._lab.session(), "interrupted")

    def pytest_sessionfinish(self) -> None:
        """End the guests of a lab that this session made, and complete its run's files."""
        if self._run is not None and self._lab is not None:
            self._lab.close()
            self._run.finish(self._lab.session())


def _needs_of(node: pytest.Item) -> Iterator[Need]:
    """What a test case needs of the kernel: what it says itself, and what the way to the subject takes."""
    for marker in node.iter_markers("needs"):
        yield from map(needs.parsed, marker.args)
    for marker in node.iter_markers("way"):
        yield from itertools.chain.from_iterable(map(needs.of_way, marker.args))


def _needs_guest(item: pytest.Item) -> bool:
    return _FIXTURE in getattr(item, "fixturenames", ())


def _case_name(node: pytest.Item, project: Path) -> str:
    file = node.path.resolve()
    inside = file.relative_to(project) if file.is_relative_to(project) else file
    return "::".join([str(inside), *node.nodeid.split("::")[1:]])


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the lab for plain pytest runs."""
    group = parser.getgroup("cachefiles-lab", "test cases in virtual machines")
    group.addoption("--kernel", default=Settings.kernel, help="kernel under test, of kernels/ (%(default)s)")
    group.addoption("--tree", type=Path, help="build this working tree instead of the kernel's own source")
    group.addoption("--without", action="append", default=[], metavar="FIX", help="revert this fix (repeatable)")
    group.addoption("--with", action="append", default=[], metavar="FIX", help="apply this fix (repeatable)")
    group.addoption("--seed", type=int, default=0, help="seed of the test cases' random choices")


def pytest_configure(config: pytest.Config) -> None:
    """Make the lab's session from the options, unless a front door brought one along."""
    manager = config.pluginmanager
    if any(isinstance(plugin, LabSession) for plugin in manager.get_plugins()):
        return
    try:
        project = host.project_folder()
    except UserError:
        return
    options = config.option
    settings = Settings(project, host.cache_folder(), kernel=options.kernel, tree=options.tree)
    manager.register(LabSession(settings, options.without, getattr(options, "with"), options.seed), "lab-session")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what boots a virtual machine, so that ``-m 'not boots'`` leaves it out."""
    for item in items:
        if _needs_guest(item):
            item.add_marker("boots")


def _session(config: pytest.Config) -> LabSession:
    for plugin in config.pluginmanager.get_plugins():
        if isinstance(plugin, LabSession):
            return plugin
    raise UserError("there is no lab here", "run pytest inside a checkout of cachefiles-lab")


@pytest.fixture
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A freshly booted guest with the modules under test loaded; never used twice."""
    session = _session(request.config)
    job = session.job(request.node)
    if obstacle := session.obstacle(request.node):
        session.record(skipped(job, obstacle))
        pytest.skip(obstacle)
    with session.case_run(job) as case:
        if case.result is not None:
            session.record(case.result)
            _show(case.result)
        assert case.guest is not None
        request.node.stash[_CASE] = case
        yield case.guest
        error = request.node.stash.get(_SETUP_ERROR, None)
        if case.result is None and error is not None:
            # A fixture of the test case's own failed, so that the test case itself never ran.
            session.record(case.conclude(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember why a test case's fixtures failed, and why it has no result."""
    if call.excinfo is not None:
        if call.when == "setup":
            item.stash[_SETUP_ERROR] = call.excinfo.value
        _remember_if_lost(item, call.excinfo.value)
    return (yield)


def _remember_if_lost(item: pytest.Item, error: BaseException) -> None:
    """A test case that ends without a result must not look as if there had been none."""
    session = _session(item.config)
    case = _case_name(item, session.settings.project)
    if isinstance(error, pytest.skip.Exception | KeyboardInterrupt) or any(
        one.case == case for one in session.results
    ):
        return
    if isinstance(error, HarnessError):
        session.broken = error
    else:
        said = f"{type(error).__name__}: {error}"
        session.broken = LabError(f"{case} ended without a result: {said}", "fix the test case, or its fixtures")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """After the test case's own code: read what the kernel says, and decide."""
    case = pyfuncitem.stash.get(_CASE, None)
    if case is None:
        return (yield)
    failure: BaseException | None = None
    value: object = None
    try:
        value = yield
    except pytest.skip.Exception as skip:
        failure = judge.CaseSkipped(skip.msg)
    except (Exception, pytest.fail.Exception) as error:
        failure = error
    result = case.conclude(failure)
    _session(pyfuncitem.config).record(result)
    if isinstance(failure, AssertionError) and result.outcome is Outcome.FAIL:
        raise failure
    _show(result)
    return value


def _show(result: Result) -> None:
    """Give pytest a result's outcome."""
    if result.outcome is Outcome.PASS:
        return
    if result.outcome is Outcome.SKIP:
        pytest.skip(result.message)
    lines = [result_line(result), *(finding.text for finding in result.findings)]
    lines += [f"evidence: {result.evidence}", f"repeat:   {result.repeat_command}"]
    pytest.fail(without_control_characters("\n".join(lines)), pytrace=False)


def run_cases(session: LabSession, selection: Sequence[str]) -> list[Result]:
    """Run test cases through pytest, for the ``harness`` command.

    Args:
        session: the lab's session; it collects the results.
        selection: paths and node ids.

    Raises:
        UserError: the selection matches nothing, or a test file cannot be read.
        LabError: a test case ended without a result.
        KeyboardInterrupt: somebody pressed Ctrl-C.
    """
    _pytest(session, selection)
    if session.broken is not None:
        raise session.broken
    return session.results


def collect_cases(session: LabSession, selection: Sequence[str]) -> list[str]:
    """The node ids of the test cases that a selection matches; the arguments are those of :func:`run_cases`."""
    _pytest(session, [*selection, "--collect-only"])
    return session.collected


def _pytest(session: LabSession, words: Sequence[str]) -> None:
    project = session.settings.project
    quiet = ["-p", "no:terminal", "-p", "no:cacheprovider", "-o", "addopts=", "--capture=sys"]
    status = pytest.main(
        [*quiet, "-c", str(project / "pyproject.toml"), "--rootdir", str(project), *words],
        plugins=[session],
    )
    if status == pytest.ExitCode.INTERRUPTED and not session.collection_errors:
        raise KeyboardInterrupt
    if session.collection_errors:
        raise UserError(f"a test file cannot be read:\n{session.collection_errors[0]}", "fix the file")
    if status in (pytest.ExitCode.NO_TESTS_COLLECTED, pytest.ExitCode.USAGE_ERROR):
        raise UserError(f"no test case matches {' '.join(words)}", f"see {project / 'testcases'}")
