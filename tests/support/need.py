"""What a test needs beside Python: skipped with a reason where it is missing, failed where CI demands it.

`CLOISTER_REQUIRE` names needs, comma-separated: vectors, documents, peers, node, loop, postgres, nats, chromium.
"""

from __future__ import annotations

import json
import lzma
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

NEEDS = ("vectors", "documents", "peers", "node", "loop", "postgres", "nats", "chromium")
REPOSITORY = Path(__file__).resolve().parents[2]


def lacking(need: str, reason: str) -> NoReturn:
    """Skip with `reason`, or fail when CLOISTER_REQUIRE names `need`."""
    if need in os.environ.get("CLOISTER_REQUIRE", "").split(","):
        pytest.fail(f"CLOISTER_REQUIRE names {need}: {reason}", pytrace=False)
    pytest.skip(f"needs {need}: {reason}")


def vectors(name: str) -> Path:
    """A file or folder beside the project's own files (../shared/vectors, or $CLOISTER_VECTORS)."""
    root = Path(os.environ.get("CLOISTER_VECTORS", REPOSITORY.parent / "shared" / "vectors"))
    path = root / name
    if not path.exists():
        lacking("vectors", f"{name} is not beside the project")
    return path


def json_vectors(name: str) -> Any:
    """The content of a JSON vector file, plain or xz."""
    path = vectors(name)
    data = path.read_bytes()
    return json.loads(lzma.decompress(data) if path.suffix == ".xz" else data)
