# SPDX-License-Identifier: GPL-2.0-only
"""The commands ``harness build`` and ``harness image``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

import typer

from harness.cli import options
from harness.runner.lab import Lab
from harness.runner.settings import Settings


def build(
    kernel: Annotated[
        str, typer.Argument(metavar="KERNEL", help="Name of the kernel, in kernels/.")
    ] = Settings.kernel,
    tree: options.TreeOption = None,
    without: options.WithoutOption = None,
    with_: options.WithOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Build a kernel with the modules under test and the lab's modules, unless cached."""
    settings = options.settings(kernel=kernel, tree=tree)
    reverted, applied = (options.fix_names(settings.project, names) for names in (without, with_))
    lab = Lab(settings, settings.cache)
    modules = lab.modules_under_test(reverted, applied)
    record = {
        "kernel": kernel,
        "release": lab.built.release,
        "bzimage": str(lab.built.bzimage),
        "config": str(lab.built.config_file),
        "build_folder": str(lab.built.build_folder),
        "modules": [str(file) for file in (*modules.files, *lab.lab_modules.files)],
    }
    _print_record(record, as_json)


def image(
    name: Annotated[str, typer.Argument(metavar="IMAGE", help="Name of the image, in images/.")] = Settings.image,
    as_json: options.JsonOption = False,
) -> None:
    """Build a guest image, unless cached."""
    settings = options.settings(image=name)
    built = Lab(settings, settings.cache).image
    _print_record({"image": name, "root": str(built.root), "scratch": str(built.scratch)}, as_json)


def _print_record(record: Mapping[str, object], as_json: bool) -> None:
    if as_json:
        print(json.dumps(record, indent=1))
        return
    for key, value in record.items():
        for line in value if isinstance(value, list) else [value]:
            print(f"{key}: {line}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(build)
    app.command()(image)
