"""What every test shares."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None)  # a shared machine is slow now and then
settings.load_profile("house")

if _mutant := os.environ.get("CLOISTER_MUTANT"):  # `make mutants`: one check is taken out of the product
    from tools.mutants import install

    install(_mutant)


def pytest_configure(config: pytest.Config) -> None:
    """The run's key pool: one folder, which parallel workers find in their environment."""
    from support.keypool import POOL  # here, because it imports the product, which may have to lack a check

    if POOL not in os.environ:
        os.environ[POOL] = tempfile.mkdtemp(prefix="cloister-test-keys-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(POOL), ignore_errors=True))
