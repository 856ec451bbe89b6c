"""The demo proves itself: honest it ends well, and each way of cheating makes it end with an error that names it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from cloister.apps.cli.demo import conductor
from cloister.apps.cli.demo.acts import NAMES as NAMES_OF_DEMOS
from cloister.apps.cli.demo.conductor import Happening, Plan
from cloister.apps.cli.main import run

pytestmark = pytest.mark.system

CLOISTER = (sys.executable, "-m", "cloister.apps.cli")
EVIL = Path(__file__).parents[1] / "support" / "evil_relay.py"
NAMES = ("alice", "bob", "carol")
MILESTONES = {
    "transport": {
        "confirmed 2/3 while carol is offline; the key is in use",
        "invitation delivered late to carol who was offline",
        "confirmed 3/3",
        "sequence numbers in the database before and after restart: carol has alice 1, bob 1, carol 1",
        "carol: confirmed by alice, bob, carol",
    },
    "pair": {
        "user list: alice, bob, carol; online: alice, bob, carol",
        "chat request by alice, accepted by bob",
        "bob and carol compared their copies: the same",
        "chat terminated by bob; both have erased its keys",
    },
    "shares": {
        "hellos delivered late to carol who was offline",
        "shares delivered late to carol who was offline",
        "carol: confirmed by alice, bob, carol",
    },
}
"""What the demo of a suite must have shown."""


def evil(mode: str, text: str = "") -> tuple[str, ...]:
    return (sys.executable, str(EVIL), mode, text)


def planned(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Make `cloister demo` follow another plan."""
    monkeypatch.setattr(conductor, "Plan", partial(Plan, patience=40.0, **changes))


def watched(monkeypatch: pytest.MonkeyPatch, watch: Callable[[Happening], None]) -> None:
    """Look at what happens in the demo."""
    perform = conductor.perform
    monkeypatch.setattr(conductor, "perform", lambda plan, _watch: perform(plan, watch))


def test_an_honest_demo_ends_well() -> None:
    done = subprocess.run([*CLOISTER, "demo", "nonces", "--json"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["v"], report["ok"], report["suite"]) == (1, True, "nonces")
    assert "TLS 1.3" in report["transport"]
    assert [member["name"] for member in report["members"]] == list(NAMES)
    assert all((member["sent"], member["received"]) == (1, 2) for member in report["members"])
    assert len({member["key_check"] for member in report["members"]}) == 1
    pids = {member["pid"] for member in report["members"]} | {report["relay"]["pid"]}
    assert len(pids) == 4
    assert report["room"]["epoch"] >= 1
    assert report["room"]["heads_equal"] is True
    assert report["relay"]["entries"] > 10
    assert report["relay"]["bytes"] > 10_000
    assert report["plaintext_found"] == []
    assert report["searched"] > 100
    for line in done.stderr.splitlines():
        assert "agreeing" not in line or "of 3" in line


@pytest.mark.parametrize("suite", [name for name in NAMES_OF_DEMOS if name != "nonces"])
def test_the_demo_of_each_suite_ends_well(suite: str) -> None:
    done = subprocess.run([*CLOISTER, "-q", "demo", suite, "--json"], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["ok"], report["suite"]) == (True, suite)
    assert report["failures"] == report["plaintext_found"] == []
    assert MILESTONES.get(suite, set()) <= set(report["milestones"])


def test_nothing_of_the_demo_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = subprocess.run([*CLOISTER, "-q", "demo", "--members", "alice,bob"], capture_output=True, timeout=120)
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []
    assert done.stderr == b""


def test_a_kept_folder_is_private_and_whole(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    done = subprocess.run(
        [*CLOISTER, "demo", "--members", "alice,bob", "--keep", str(kept)], capture_output=True, timeout=120
    )
    assert done.returncode == 0
    names = {path.name for path in kept.iterdir()}
    assert {"relay", "relay.log", "alice", "bob", "alice.log", "bob.log"} <= names
    loose = [path for path in (kept, *kept.rglob("*")) if path.lstat().st_mode & 0o077]
    assert loose == []


def test_a_folder_that_is_there_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--keep", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    "members", ["alice", "alice,alice", "al,bob", "a1,b2", ",".join(f"member{n}" for n in range(9))]
)
def test_members_that_make_no_demo_are_usage(members: str) -> None:
    assert run(["demo", "--members", members]) == 2


def test_a_relay_that_flips_a_bit_is_caught_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(monkeypatch, relay=evil("flip"))
    assert run(["-q", "demo", "--json"]) == 10
    error = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert error["code"] == "bad_chain"
    assert any(name in error["message"] for name in NAMES)


def test_a_relay_that_writes_a_text_to_its_log_is_caught_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "the secret garden opens at 8"
    planned(monkeypatch, relay=evil("tell", text), texts={"bob": (text,)})
    assert run(["-q", "demo", "--json"]) == 10
    out, err = capsys.readouterr()
    report = json.loads(out.splitlines()[-1])
    assert report["ok"] is False
    assert report["plaintext_found"] == ["a message of bob (raw) in relay.log"]
    error = json.loads(err.splitlines()[-1])
    assert error["code"] == "leak"
    assert "a message of bob (raw) in relay.log" in error["message"]
    assert text not in err


def test_a_member_killed_before_it_confirms_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    killed: list[int] = []

    def kill(happening: Happening) -> None:
        if happening.who == "carol" and happening.kind == "milestone" and not killed:
            killed.append(happening.pid)
            os.kill(happening.pid, signal.SIGKILL)

    planned(monkeypatch)
    watched(monkeypatch, kill)
    assert run(["-q", "demo", "--json"]) == 1
    error = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert killed
    assert error["code"] == "demo_failed"
    assert "carol was killed by signal 9 before it was agreed on the key" in error["message"]


def test_a_relay_that_cannot_start_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(monkeypatch, relay=(sys.executable, "-c", "raise SystemExit('no relay today')"))
    assert run(["-q", "demo"]) == 1
    err = capsys.readouterr().err
    assert "the relay ended with 1" in err
    assert "no relay today" in err
