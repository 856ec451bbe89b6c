"""A fake profile for the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.fake_backend import FakeBackend


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeBackend:
    """A profile `alice` whose commands and events are the test's."""
    fake = FakeBackend()
    monkeypatch.setattr("cloister.client.opening.open_backend", fake.open)
    monkeypatch.setenv("CLOISTER_PROFILE", "alice")
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path))
    monkeypatch.delenv("CLOISTER_PASSPHRASE_FD", raising=False)
    monkeypatch.delenv("CLOISTER_PASSPHRASE_FILE", raising=False)
    return fake
