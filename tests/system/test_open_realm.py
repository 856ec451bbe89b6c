"""A realm that certifies nobody, with real processes: the open link registers names, people are asked and talk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

CLOISTER = (sys.executable, "-m", "cloister.apps.cli")
PORT = 17_655


class Place:
    """A folder with a relay and profiles; every password is its user's name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *arguments: str, user: str = "", said: str = "") -> subprocess.CompletedProcess[str]:
        """One command, as a person would type it."""
        environment = {**os.environ, "CLOISTER_HOME": str(self.folder / "home")}
        if user:
            password = self.folder / f"{user}.password"
            password.write_text(f"password of {user}")
            password.chmod(0o600)
            environment["CLOISTER_PASSPHRASE_FILE"] = str(password)
        command = [*CLOISTER, *(("-p", user) if user else ()), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, input=said)


@pytest.mark.system
def test_anybody_with_the_link_registers_a_name_and_is_asked(tmp_path: Path) -> None:
    place, relay = Place(tmp_path), str(tmp_path / "relay")
    made = place.run(
        "--json", "relay", "init", "--folder", relay, "--realm", "open", "--domain", "127.0.0.1", "--port", str(PORT),
        "--authority", "none",
    )  # fmt: skip
    link = json.loads(made.stdout)["link"]
    with subprocess.Popen([*CLOISTER, "relay", "run", "--folder", relay], stderr=subprocess.DEVNULL) as process:
        try:
            while not (tmp_path / "relay" / "admin.sock").exists():
                assert process.poll() is None
                time.sleep(0.1)
            for user in ("ann", "bob"):
                assert place.run("setup", "--invite", "-", "--user", user, user=user, said=link).returncode == 0
            taken = place.run("setup", "--invite", "-", "--user", "ann", user="max", said=link)
            assert "code: exists" in taken.stderr
            for suite in ("mls", "nonces"):
                refused = place.run("room", "create", "x", "--suite", suite, "--members", "bob", user="ann")
                assert "this realm certifies nobody" in refused.stderr
            assert place.run("room", "create", "two", "--suite", "pair", "--members", "bob", user="ann").returncode == 0
            assert "ann asks for two" in place.run("requests", "list", user="bob").stdout
            assert "ready" in place.run("requests", "accept", "two", user="bob").stdout
            assert place.run("send", "two", "hello bob", user="ann").returncode == 0
            shown = [place.run("room", "show", "two", user=user).stdout for user in ("ann", "bob")]
            assert all("ready, pair, epoch 1" in text for text in shown)
        finally:
            process.terminate()
