# SPDX-License-Identifier: GPL-2.0-only
"""The command ``harness``."""

from __future__ import annotations

import contextlib
import datetime
import functools
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from harness import __version__
from harness.catalog import spec
from harness.catalog.selection import selected
from harness.cli import bench as bench_cli
from harness.cli import bisect as bisect_cli
from harness.cli import doctor
from harness.cli import parse as parse_command
from harness.cli import shell as interactive
from harness.cli import stress as stress_cli
from harness.cli.options import JsonOption
from harness.cli.parse import Form, Parsing
from harness.core import host
from harness.core.errors import HarnessError, UserError
from harness.core.model import Outcome, Proof, Result
from harness.core.progress import results_console, say
from harness.provoke import operations as sweep_operations
from harness.report import as_json
from harness.report.findings import failures_view
from harness.report.terminal import proof_table
from harness.runner import prove as proving
from harness.runner.campaign import Campaign, Cases, ProofOf
from harness.runner.lab import Lab
from harness.runner.recording import (
    GOOD,
    INTERRUPTED,
    KERNEL_FAILED,
    LAB_BROKE,
    exit_code,
    print_results,
    recorded,
    say_files,
)
from harness.runner.runs import RunFolder
from harness.runner.settings import Settings
from harness.sweep import records as sweep_records
from harness.sweep import sweeper as sweeping
from harness.sweep.records import Question, Sweep
from harness.sweep.table import sweep_table

app = typer.Typer(
    name="harness",
    help="Build kernels with sanitizers, boot them in QEMU, provoke documented bugs of erofs, fscache and "
    "cachefiles, and compare what the kernel log says with the documented fixes.",
    epilog="Exit codes: 0 all as it should be, 1 a kernel under test failed, 2 you asked for something "
    "impossible, 3 the lab broke.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

KernelOption = Annotated[str, typer.Option("--kernel", help="Kernel to test: a name in kernels/.")]
TreeOption = Annotated[
    Path | None,
    typer.Option("--tree", help="Build this kernel working tree instead of the kernel's own source."),
]
CommitOption = Annotated[
    str, typer.Option("--commit", metavar="REF", help="With --tree: build this commit of it, not its files.")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Build with this configuration instead of the kernel's fragments."),
]
ImageOption = Annotated[str, typer.Option("--image", help="Guest image: a name in images/.")]
CpusOption = Annotated[int, typer.Option("--cpus", min=1, max=8, help="Processors of a guest.")]
MemoryOption = Annotated[int, typer.Option("--memory", min=256, help="Memory of a guest in MiB.")]
JobsOption = Annotated[
    int,
    typer.Option("--jobs", "-j", min=0, help="Guests at a time; 0: as many as there are processors and memory for."),
]
ColdOption = Annotated[
    bool, typer.Option("--cold", help="Boot each guest instead of restoring one that was saved after booting.")
]
WithoutOption = Annotated[
    list[str] | None, typer.Option("--without", metavar="FIX", help="Revert this fix (repeatable).")
]
WithOption = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="FIX", help="Apply this fix, which the kernel lacks (repeatable)."),
]

_DEFAULT = Settings(Path(), Path())


def _settings(
    kernel: str,
    tree: Path | None,
    image: str,
    cpus: int,
    memory: int,
    kmemleak: bool = True,
    cold: bool = False,
    commit: str = "",
    config: Path | None = None,
) -> Settings:
    doctor.require_tools()
    if commit and tree is None:
        raise UserError("--commit says nothing without a tree", "name the repository with --tree")
    project = host.project_folder()
    return Settings(project, host.cache_folder(), kernel, tree, commit, config, image, cpus, memory, kmemleak, cold)


def _known(project: Path, names: Sequence[str] | None) -> tuple[str, ...]:
    """Names of fixes from the command line, which must exist and be well-formed."""
    return tuple(spec.load_fix(project, name).name for name in names or ())


@app.command()
def run(
    select: Annotated[
        list[str] | None,
        typer.Argument(help="Test cases: a fix's name, a file, a folder or a pytest node id. Default: all."),
    ] = None,
    kernel: KernelOption = _DEFAULT.kernel,
    tree: TreeOption = None,
    commit: CommitOption = "",
    config: ConfigOption = None,
    without: WithoutOption = None,
    with_: WithOption = None,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Run each test case this often.")] = 1,
    until_fail: Annotated[
        bool,
        typer.Option("--until-fail", help="Repeat until one does not pass; with --repeat, at most so often."),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the test cases' random choices.")] = 0,
    no_kmemleak: Annotated[
        bool, typer.Option("--no-kmemleak", help="Do not scan for leaks: some ten seconds less a case.")
    ] = False,
    image: ImageOption = _DEFAULT.image,
    cpus: CpusOption = _DEFAULT.cpus,
    memory: MemoryOption = _DEFAULT.memory_mib,
    jobs: JobsOption = 0,
    cold: ColdOption = False,
    as_json_: JsonOption = False,
) -> None:
    """Run test cases, each in a guest of its own.

    A test case states how a fixed kernel behaves. It fails when one of its assertions does, and when
    KASAN, kmemleak or another part of the kernel reported something.
    """
    settings = _settings(kernel, tree, image, cpus, memory, not no_kmemleak, cold, commit, config)
    selection = [selected(settings.project, word) for word in select or [str(settings.project / "testcases")]]
    reverted, applied = _known(settings.project, without), _known(settings.project, with_)
    folder = RunFolder(settings.project)
    lab = Lab(settings, folder.path)
    with recorded(folder, lab):
        lab.prepare()
        campaign = Campaign(lab, folder, jobs)
        case = Cases(tuple(selection), reverted, applied, seed, named=bool(select))
        batches = campaign.batches(case, repeat, until_fail)
        for batch in batches:
            results = [result for done in campaign.execute(batch) for result in done.results]
            if until_fail and exit_code(results) != GOOD:
                break
    print_results(folder, lab, as_json_)
    raise typer.Exit(exit_code(folder.results))


@app.command()
def prove(
    fixes: Annotated[list[str] | None, typer.Argument(help="Names of fixes. Default: all of the catalogue.")] = None,
    kernel: KernelOption = _DEFAULT.kernel,
    tree: TreeOption = None,
    image: ImageOption = _DEFAULT.image,
    cpus: CpusOption = _DEFAULT.cpus,
    memory: MemoryOption = _DEFAULT.memory_mib,
    attempts: Annotated[
        int,
        typer.Option("--attempts", min=1, help="Try a fix so often at most, until its verdict is the known one."),
    ] = 1,
    jobs: JobsOption = 0,
    cold: ColdOption = False,
    as_json_: JsonOption = False,
) -> None:
    """Prove documented fixes: with a fix its bug must be absent, without it the bug must appear.

    For each fix its test cases run on the plain kernel and on one whose modules were rebuilt without
    the fix. 'proven' means: clean with the fix, exactly the documented report without it, and counters
    show that the path of the bug ran both times.
    """
    settings = _settings(kernel, tree, image, cpus, memory, cold=cold)
    chosen = spec.load_fixes(settings.project, tuple(fixes or ()))
    if not chosen:
        raise UserError("the catalogue has no fixes", "see testcases/fixes/")
    folder = RunFolder(settings.project)
    lab = Lab(settings, folder.path)

    with recorded(folder, lab):
        lab.prepare()
        proving.build_variants(lab, chosen)
        Campaign(lab, folder, jobs).execute([ProofOf(fix.name, attempts) for fix in chosen])
    proofs = folder.proofs
    if as_json_:
        print(as_json.document(folder.results, proofs, lab.session()), end="")
    else:
        console = results_console()
        console.print(proof_table(proofs), failures_view(_unproven(proofs), console.width))
    say_files(folder)
    if all(proof.as_known for proof in proofs):
        raise typer.Exit(GOOD)
    broke = any(result.outcome is Outcome.LAB_ERROR for result in folder.results)
    raise typer.Exit(LAB_BROKE if broke else KERNEL_FAILED)


def _unproven(proofs: Sequence[Proof]) -> list[Result]:
    """The results of the proofs that failed: where a bug shows only without its fix, nothing did."""
    failed = [proof for proof in proofs if not proof.as_known]
    return [result for proof in failed for result in (proof.with_fix, proof.without_fix) if result is not None]


@app.command()
def sweep(
    operations: Annotated[list[str] | None, typer.Argument(help="Names of operations. Default: all.")] = None,
    kernel: KernelOption = _DEFAULT.kernel,
    tree: TreeOption = None,
    without: WithoutOption = None,
    with_: WithOption = None,
    memory: MemoryOption = _DEFAULT.memory_mib,
    cold: ColdOption = False,
    until_fail: Annotated[
        bool, typer.Option("--until-fail", help="End with the first guest in which something is wrong.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the sweep that was interrupted, or ended so.")
    ] = False,
    as_json_: JsonOption = False,
) -> None:
    """Let every single allocation of each operation fail once, and look what that breaks.

    An operation is done again and again, each time with the next allocation on its path failing, until none
    is left. Each time the kernel log, fscache's objects and stuck processes are looked at, and whether the
    operation still works; leaks at the end. Operations: see docs/sweep.md.
    """
    project = host.project_folder()
    if resume:
        begun = sweeping.interrupted(project)
        question = begun.question
    else:
        reverted, applied = _known(project, without), _known(project, with_)
        question = Question(tuple(operations or ()), kernel, str(tree.absolute()) if tree else "", reverted, applied)
        begun = Sweep(question)
    chosen_tree = Path(question.tree) if question.tree else None
    settings = _settings(question.kernel, chosen_tree, _DEFAULT.image, _DEFAULT.cpus, memory, cold=cold)
    sweep_operations.chosen(question.operations)
    folder = RunFolder(project)
    lab = Lab(settings, folder.path)
    with recorded(folder, lab):
        begun = replace(begun, question=sweeping.checked(lab, question))
        lab.prepare()
        done = sweeping.Sweeper(lab, folder, begun, until_fail).sweep_all()
    if as_json_:
        print(sweep_records.document(done, lab.session()), end="")
    else:
        console = results_console()
        console.print(sweep_table(done), failures_view(folder.results, console.width))
    say(f"all points: {folder.path / sweeping.RECORD}")
    say_files(folder)
    raise typer.Exit(exit_code(folder.results))


@app.command()
def build(
    kernel: Annotated[str, typer.Argument(help="Name of the kernel, in kernels/.")] = _DEFAULT.kernel,
    tree: TreeOption = None,
    without: WithoutOption = None,
    with_: WithOption = None,
    as_json_: JsonOption = False,
) -> None:
    """Build a kernel, its modules under test and the lab's modules; nothing that the cache has."""
    settings = _settings(kernel, tree, _DEFAULT.image, _DEFAULT.cpus, _DEFAULT.memory_mib)
    lab = Lab(settings, settings.cache)
    built = lab.modules_under_test(_known(settings.project, without), _known(settings.project, with_))
    record = {
        "kernel": kernel,
        "release": lab.built.release,
        "bzimage": str(lab.built.bzimage),
        "config": str(lab.built.config_file),
        "build_folder": str(lab.built.build_folder),
        "modules": [str(file) for file in (*built.files, *lab.lab_modules.files)],
    }
    _print_record(record, as_json_)


@app.command()
def image(
    name: Annotated[str, typer.Argument(help="Name of the image, in images/.")] = _DEFAULT.image,
    as_json_: JsonOption = False,
) -> None:
    """Build a guest image; nothing that the cache has."""
    lab = Lab(_settings(_DEFAULT.kernel, None, name, 1, 256), host.cache_folder())
    _print_record({"image": name, "root": str(lab.image.root), "scratch": str(lab.image.scratch)}, as_json_)


def _print_record(record: Mapping[str, object], as_json_: bool) -> None:
    if as_json_:
        print(json.dumps(record, indent=1))
        return
    for key, value in record.items():
        for line in value if isinstance(value, list) else [value]:
            print(f"{key}: {line}")


@app.command()
def shell(
    kernel: KernelOption = _DEFAULT.kernel,
    tree: TreeOption = None,
    without: WithoutOption = None,
    with_: WithOption = None,
    image: ImageOption = _DEFAULT.image,
    cpus: CpusOption = _DEFAULT.cpus,
    memory: MemoryOption = _DEFAULT.memory_mib,
) -> None:
    """Boot a guest with the modules under test and open a shell in it.

    Without a terminal, standard input is run as a script: echo 'uname -a' | harness shell. When the
    shell ends the guest is gone, and what its kernel reported is printed.
    """
    settings = _settings(kernel, tree, image, cpus, memory)
    folder = RunFolder(settings.project)
    lab = Lab(settings, folder.path)
    reverted, applied = _known(settings.project, without), _known(settings.project, with_)
    raise typer.Exit(interactive.shell(lab, reverted, applied, folder.path))


@app.command(name="doctor")
def doctor_(as_json_: JsonOption = False) -> None:
    """Say what this host lacks and how to get it, and which accelerator works."""
    raise typer.Exit(doctor.report(host.cache_folder(), as_json_))


@app.command()
def parse(
    files: Annotated[
        list[Path],
        typer.Argument(help="Kernel logs: console, dmesg, journal, kmemleak's file; - for standard input."),
    ],
    modules: Annotated[
        list[Path] | None,
        typer.Option(
            "--modules", metavar="DIR", help="Modules (*.ko) of the log's kernel, for source lines (repeatable)."
        ),
    ] = None,
    suppressions: Annotated[
        Path | None,
        typer.Option("--suppressions", metavar="FILE", help="Known noise. Default: testcases/suppressions.yaml."),
    ] = None,
    mail: Annotated[
        bool, typer.Option("--mail", help="The first report of each file as a mail to a kernel list.")
    ] = False,
    as_json_: Annotated[bool, typer.Option("--json", help="One JSON object for each file, one a line.")] = False,
) -> None:
    """Find what is wrong in kernel logs, and name it as the field does.

    Exit codes: 0 all files were read, whatever is in them; 2 one could not be read.
    """
    if mail and as_json_:
        raise UserError("--mail and --json exclude each other", "choose one of them")
    form = Form.MAIL if mail else Form.JSON if as_json_ else Form.TEXT
    known = spec.load_suppressions(_suppressions_file(suppressions))
    parsing = Parsing(parse_command.checked_folders(modules or ()), known, datetime.date.today(), form)
    raise typer.Exit(parse_command.parse_files(files, parsing))


def _suppressions_file(chosen: Path | None) -> Path:
    """The file that was asked for, which must be there, else the checkout's, which need not."""
    if chosen is None:
        with contextlib.suppress(UserError):
            return host.project_folder() / spec.SUPPRESSIONS
        return Path(os.devnull)
    if not chosen.is_file():
        raise UserError(f"{chosen}: there is no such file", "name a file with suppressions")
    return chosen


bisect_cli.register(app)
bench_cli.register(app)
stress_cli.register(app)


def _version(asked: bool) -> None:
    if asked:
        print(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


def _terminated(_signal: int, _frame: object) -> None:
    # Once is enough: what has to be ended and written takes seconds, and must not be interrupted itself.
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, signal.SIG_IGN)
    raise KeyboardInterrupt


@functools.cache
def _command() -> Callable[[], object]:
    # Making it takes some 30 ms; the tests run it hundreds of times in one process.
    return typer.main.get_command(app)


def main() -> None:
    """Run the command; turn exceptions into one clear sentence and the right exit code."""
    with bisect_cli.stopping_git(sys.argv[1:]):
        _main()


def _main() -> None:
    # Also where the harness was started with Ctrl-C ignored, as shells do for what runs in the background.
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, _terminated)
    # Each run of pytest collects garbage several times; what is loaded by now is none.
    gc.freeze()
    try:
        _command()()
    except HarnessError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("interrupted; guests and builds were ended")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(GOOD)
    except Exception as error:
        traceback.print_exc()
        say(f"error: the harness itself failed ({type(error).__name__}: {error}); please report it")
        sys.exit(LAB_BROKE)
