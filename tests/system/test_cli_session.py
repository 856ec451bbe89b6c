"""`cloister session` as two people use it: real processes on terminals, a real relay, no accounts."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli_realm import CLOISTER, CliRealm, Terminal, cli_realm, terminal, wait_for

pytestmark = pytest.mark.system
CODE = re.compile(rb"\b[0-9A-F]{6}(?:-[0-9A-Z]{4}-[0-9A-Z]{4})?\b")
DIGITS = re.compile(rb"\d{4} \d{4} \d{4}")
READY = "Secure chat session started!"


@pytest.fixture
def realm(tmp_path: Path) -> Iterator[CliRealm]:
    with cli_realm(tmp_path) as made:
        yield made


@pytest.fixture
def sit(realm: CliRealm) -> Iterator[object]:
    """Sits somebody down at a terminal: `sit("ann", "create")`."""
    opened: list[Terminal] = []

    def at(who: str, *arguments: str, relay: str = "") -> Terminal:
        command = [*CLOISTER, "session", *arguments]
        if arguments[:1] != ("resume",):
            command += ["--relay", relay or f"127.0.0.1:{realm.port}"]
        made = terminal(command, realm.environment(who))
        opened.append(made.__enter__())
        managers.append(made)
        return opened[-1]

    managers: list[object] = []
    yield at
    for manager in managers:
        manager.__exit__(None, None, None)  # type: ignore[attr-defined]


def code_on(screen: Terminal) -> str:
    screen.until("waiting for another person to join")
    found = CODE.search(screen.screen)
    assert found is not None, screen.screen
    return found.group().decode()


def test_two_people_talk_and_ctrl_c_ends_it_for_both(sit) -> None:
    ann = sit("ann", "create")
    code = code_on(ann)
    assert len(code) == len("A3F2B1-7Q4K-M9XP")
    bob = sit("bob", "join", code.lower())
    for screen in (ann, bob):
        screen.until(READY)
    ann.type("Hello!\n")
    bob.until("creator: Hello!")
    bob.type("Hi there!\n")
    ann.until("joiner: Hi there!")
    ann.type("\x03")
    assert ann.end() == 0
    assert bob.end() == 0
    assert b"the session is over" in ann.screen
    assert b"the session is over" in bob.screen
    assert b"Traceback" not in ann.screen + bob.screen


def test_the_same_over_raw_tcp_without_tls_on_this_machine(realm: CliRealm, sit) -> None:
    realm.stop_relay()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*CLOISTER, "relay", "run", "--folder", str(realm.relay), "--tcp", str(port)]
    realm.processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
    wait_for(lambda: (realm.relay / "admin.sock").exists())
    ann = sit("ann", "create", relay=f"tcp://localhost:{port}")
    bob = sit("bob", "join", code_on(ann), relay=f"tcp://127.0.0.1:{port}")
    for screen in (ann, bob):
        screen.until(READY)
    ann.type("over plain TCP\n")
    bob.until("creator: over plain TCP")
    bob.type("\x03")
    assert (bob.end(), ann.end()) == (0, 0)


def test_who_chooses_by_letters_and_compares_the_string(sit) -> None:
    ann = sit("ann", "create", "--id-only")
    code = code_on(ann)
    assert len(code) == 6
    bob = sit("bob")
    bob.until("(C)reate a new session or (J)oin")
    bob.type("J\n")
    bob.until("Session code")
    bob.type(f"{code}\n")
    shown = []
    for screen in (ann, bob):
        screen.until("Is it the same on both sides?")
        found = DIGITS.search(screen.screen)
        assert found is not None
        shown.append(found.group())
    assert shown[0] == shown[1]
    ann.type("early\n")  # no answer to the question, and nothing that is sent
    ann.type("same\n")
    ann.until("waiting for the other person to compare")
    assert READY.encode() not in bob.screen
    bob.type("same\n")
    for screen in (ann, bob):
        screen.until(READY)
    bob.type("compared\n")
    ann.until("joiner: compared")
    assert b"early" not in bob.screen
    bob.type("\x03")
    assert (bob.end(), ann.end()) == (0, 0)


def test_a_different_string_ends_it_for_both_with_the_integrity_code(sit) -> None:
    ann = sit("ann", "create", "--id-only")
    bob = sit("bob", "join", code_on(ann))
    for screen in (ann, bob):
        screen.until("Is it the same on both sides?")
    bob.type("different\n")
    assert bob.end() == 10
    assert b"wrong_code_or_mitm" in bob.screen
    assert ann.end() == 0


def test_a_wrong_code_may_be_typed_again_and_the_third_burns_it(sit) -> None:
    ann = sit("ann", "create")
    code = code_on(ann)
    wrong = code[:-1] + ("0" if code[-1] != "0" else "1")
    bob = sit("bob", "join", wrong)
    for _ in range(2):
        bob.until("the code is wrong, or somebody sits between")
        bob.until("Session code:")
        bob.screen = b""
        bob.type(f"{wrong}\n")
    assert bob.end() == 10
    assert ann.end() == 10
    assert ann.screen.count(b"the code is wrong, or somebody sits between") >= 3


def test_a_code_that_nobody_made_is_not_found(sit) -> None:
    bob = sit("bob", "join", "ABCDEF-0000-0000")
    assert bob.end() == 6


def test_a_kept_session_is_resumed_with_a_new_key(realm: CliRealm, sit) -> None:
    ann = sit("ann", "create", "--keep", "talk")
    bob = sit("bob", "join", code_on(ann), "--keep", "talk")
    for screen in (ann, bob):
        screen.until(READY)
    ann.type("first\n")
    bob.until("creator: first")
    bob.type("\x04")
    bob.until("cloister session resume talk")
    assert bob.end() == 0
    ann.type("meanwhile\n")
    again = sit("bob", "resume", "talk")
    again.until("creator: meanwhile")
    again.until("hold the same key; its check value is")
    again.type("back\n")
    ann.until("joiner: back")
    again.type("\x03")
    assert (again.end(), ann.end()) == (0, 0)
    assert (realm.folder / "home-bob" / "sessions" / "talk" / "vault").exists()
    assert not (Path(realm.folder) / "home-bob" / "known-relays").exists()
