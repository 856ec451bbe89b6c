"""What every test shares."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

if _mutant := os.environ.get("CLOISTER_MUTANT"):  # `make mutants`: one check is taken out of the product
    from tools.mutants import install

    install(_mutant)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The run's key pool goes with the run."""
    if hasattr(session.config, "workerinput"):
        return
    run = getattr(session.config, "workerinput", {}).get("testrunuid") or f"pid{os.getpid()}"
    for folder in Path(tempfile.gettempdir()).glob(f"cloister-test-keys-{os.getuid()}-*"):
        if folder.name.endswith(run) or "pid" not in folder.name:
            shutil.rmtree(folder, ignore_errors=True)
