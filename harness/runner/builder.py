# SPDX-License-Identifier: GPL-2.0-only
"""What is built for the jobs of a session: the kernel, its modules, the guest image."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from harness.catalog import spec
from harness.catalog.known import KnownBugs, load_known_bugs
from harness.catalog.needs import Abilities
from harness.core.cache import Cache
from harness.core.model import Job, Kernel, Suppression
from harness.kbuild import build, modules, symbols
from harness.kbuild.image import BuiltImage, build_image
from harness.runner.settings import Settings, chosen_kernel

_LAB_MODULES = "testcases/guest/modules"
_GUEST_PROGRAMS = "testcases/guest/programs"


class Builder:
    """Builds what the jobs of a session need, each thing when it is first asked for.

    Args:
        settings: what the user chose.

    Raises:
        HarnessError: (all properties and methods) it cannot be built.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cache = Cache(settings.cache)

    @functools.cached_property
    def kernel(self) -> Kernel:
        """The description of the kernel under test."""
        return chosen_kernel(self.settings)

    @functools.cached_property
    def built(self) -> build.BuiltKernel:
        """The kernel under test, built."""
        return build.build_kernel(self.kernel, self.cache)

    def complete_config(self) -> dict[str, str]:
        """The kernel's configuration, option to value; does not build the kernel."""
        return build.complete_config(self.kernel, self.cache)

    def abilities(self) -> Abilities:
        """What the kernel under test can do, for the needs of test cases, operations and steps."""
        return Abilities(self.built.config(), self.kernel.companions, self._symbols)

    def _symbols(self) -> frozenset[str]:
        modules_under_test = self.modules_under_test()
        return symbols.kernel_symbols(self.built.build_folder) | symbols.module_symbols(modules_under_test.files)

    def move_to(self, settings: Settings) -> bool:
        """Continue with another commit or configuration.

        Returns:
            False where that needs another kernel; it has been built, and needs a lab of its own.
        """
        kernel = chosen_kernel(settings)
        built = build.build_kernel(kernel, self.cache)
        if built.key != self.built.key:
            return False
        self.settings, self.kernel, self.built = settings, kernel, built
        return True

    def modules_under_test(self, reverted: Sequence[str] = (), applied: Sequence[str] = ()) -> modules.ModuleSet:
        """The modules under test, with the named fixes reverted or applied."""
        project = self.settings.project
        variation = modules.Variation(
            tuple(spec.load_fix(project, name) for name in reverted),
            tuple(spec.load_fix(project, name) for name in applied),
        )
        return modules.build_modules_under_test(self.built, variation, self.cache)

    @functools.cached_property
    def suppressions(self) -> tuple[Suppression, ...]:
        """Known noise."""
        return spec.load_suppressions(self.settings.project / spec.SUPPRESSIONS)

    @functools.cached_property
    def known_bugs(self) -> KnownBugs:
        """What kernels are known for."""
        return load_known_bugs(self.settings.project)

    @functools.cached_property
    def lab_modules(self) -> modules.ModuleSet:
        """The lab's own modules for this kernel."""
        return modules.build_lab_modules(self.built, self.settings.project / _LAB_MODULES, self.cache)

    def companions(self, name: str) -> modules.ModuleSet:
        """Modules for this kernel that use those under test; ``companions`` in ``kernels/*.yaml``."""
        return modules.build_companions(self.built, name, self.cache)

    @functools.cached_property
    def image(self) -> BuiltImage:
        """The session's guest image."""
        return self._build_image(self.settings.image)

    def image_for(self, job: Job | None) -> BuiltImage:
        """The image that a job asks for; the session's where there is no job."""
        if job is None or job.image == self.settings.image:
            return self.image
        return self._build_image(job.image)

    def _build_image(self, name: str) -> BuiltImage:
        image = spec.load_image(self.settings.project, name)
        return build_image(image, self.settings.project / _GUEST_PROGRAMS, self.cache)
