"""One watch for a whole test run: references and sightings are shared."""

from __future__ import annotations

import pytest

from faults.runner import Runner
from faults.watch import Watch


@pytest.fixture(scope="session")
def runner() -> Runner:
    """Runs the suite in this process."""
    return Runner()


@pytest.fixture(scope="session")
def watch(tmp_path_factory: pytest.TempPathFactory, runner: Runner) -> Watch:
    """Applies faults and says what saw them."""
    return Watch(tmp_path_factory.mktemp("faults"), runner)
