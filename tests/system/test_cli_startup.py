"""Commands start quickly: `cloister --help` within three times what importing click costs."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

pytestmark = pytest.mark.system


def cost(*arguments: str) -> float:
    """The least CPU seconds of several runs."""
    runs = []
    for _ in range(7):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        runs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(runs)


def test_help_costs_at_most_three_imports_of_click() -> None:
    assert cost("-m", "cloister.apps.cli", "--help") <= 3 * cost("-c", "import click")


def test_a_send_to_a_running_owner_loads_no_engine_and_no_network() -> None:
    script = (
        "import sys\n"
        "from cloister.apps.cli import messages, session, view\n"
        "from cloister.client import client, opening, remote\n"
        "heavy = ('aiohttp', 'apsw', 'cloister.engine.core', 'cloister.relay', 'cloister.mls', 'rich')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
