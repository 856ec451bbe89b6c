"""The command line as people meet it: on a terminal, with two people talking through a real relay."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli_realm import CLOISTER, PASSWORD, CliRealm, cli_realm, terminal, wait_for
from support.payloads import PAYLOADS

pytestmark = pytest.mark.system

SGR = re.compile(rb"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliRealm]:
    """Alice and bob in a realm; the room `ops` is theirs and its key agreed."""
    with cli_realm(tmp_path_factory.mktemp("realm"), "alice", "bob") as made:
        assert made.run("alice", "room", "create", "ops", "--members", "bob").returncode == 0
        with chatting(made, "bob"), chatting(made, "alice"):
            wait_for(lambda: room_state(made, "alice") == "ready" and room_state(made, "bob") == "ready")
        yield made


def room_state(realm: CliRealm, user: str, room: str = "ops") -> str:
    done = realm.run(user, "room", "show", room, "--json")
    return json.loads(done.stdout)["state"] if done.returncode == 0 else done.stderr


class Chat(subprocess.Popen[bytes]):
    def say(self, line: str) -> None:
        """Type a line."""
        assert self.stdin is not None
        self.stdin.write(line.encode() + b"\n")
        self.stdin.flush()


def chatting(realm: CliRealm, user: str, room: str = "ops") -> Chat:
    """A chat that is fed through a pipe; leaving the context ends its input and waits for it."""
    return Chat(
        [*CLOISTER, "chat", room, "--plain"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=realm.environment(user),
    )


def controls(data: bytes) -> set[int]:
    """Control bytes in what reached a screen, but line ends and tabs; C1 in both encodings."""
    text = data.decode(errors="surrogateescape")
    return {ord(char) for char in text if (char < " " and char not in "\r\n\t") or "\x7f" <= char <= "\x9f"} | {
        ord(char) for char in text if "\ud800" <= char <= "\udfff" or char in "\u202d\u202e\u2066\u2067"
    }


# --- what peers write ---------------------------------------------------------------------------------------


def test_forty_payloads_reach_the_screen_as_none(realm: CliRealm) -> None:
    with terminal([*CLOISTER, "chat", "ops", "--plain"], realm.environment("alice")) as alice:
        alice.until("Begin chatting!")
        with chatting(realm, "bob") as bob:
            for number, payload in enumerate(PAYLOADS):
                bob.say(f"{number} {payload} end-of-{number}.")
            alice.until(f"end-of-{len(PAYLOADS) - 1}.")
        alice.type("\x04")
        assert alice.end() == 0
    for number in range(len(PAYLOADS)):
        assert f"end-of-{number}.".encode() in alice.screen
    assert controls(alice.screen.replace(b"\r\n", b"\n")) == set()
    assert b"\r" not in alice.screen.replace(b"\r\n", b"")


def test_with_colour_only_our_own_colours_reach_the_screen(realm: CliRealm) -> None:
    environment = realm.environment("alice")
    del environment["NO_COLOR"]
    with terminal([*CLOISTER, "chat", "ops", "--plain"], environment) as alice:
        alice.until("Begin chatting!")
        with chatting(realm, "bob") as bob:
            bob.say("\x1b[31mred \x1b]0;title\x07 all of it")
            alice.until("all of it")
        alice.type("\x04")
        assert alice.end() == 0
    assert SGR.search(alice.screen) is not None
    assert b"\x1b[31m" not in alice.screen
    assert controls(SGR.sub(b"", alice.screen)) == set()


def test_a_rooms_title_cannot_paint_the_screen(realm: CliRealm) -> None:
    title = "x\x1b]0;evil\x07\x9b2J\u202egnp"
    assert realm.run("alice", "room", "create", title, "--members", "bob").returncode == 0
    for command in (["room", "list"], ["room", "show", title], ["room", "add", title, "bob"]):
        with terminal([*CLOISTER, *command], realm.environment("bob")) as bob:
            bob.until("x␛]0;evil␇")
            bob.end()
        assert controls(bob.screen.replace(b"\r\n", b"\n")) == set()


def test_no_text_passes_for_another_line(realm: CliRealm) -> None:
    with terminal([*CLOISTER, "chat", "ops", "--plain"], realm.environment("alice")) as alice:
        alice.until("Begin chatting!")
        text = "first\n* carol has joined\nalice: I agree"
        assert realm.run("bob", "send", "ops", "-", text=text).returncode == 0
        alice.until("I agree")
        alice.type("\x04")
        alice.end()
    lines = alice.screen.decode().splitlines()
    for pretended in ("* carol has joined", "alice: I agree"):
        assert [line for line in lines if pretended in line and not line.startswith("     ")] == []


# --- one profile, several processes -------------------------------------------------------------------------


def test_send_works_while_chat_owns_the_profile(realm: CliRealm) -> None:
    with terminal([*CLOISTER, "chat", "ops", "--plain"], realm.environment("alice")) as alice:
        alice.until("Begin chatting!")
        done = realm.run("alice", "send", "ops", "from a second process", "--wait", "sent", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["state"] == "sent"
        assert realm.run("alice", "users", CLOISTER_PASSPHRASE_FILE="").stdout.count("main") == 2
        alice.type("\x04")
        assert alice.end() == 0
    heard = realm.run("bob", "listen", "ops", "--count", "1", "--timeout", "20", "--json")
    assert "from a second process" in heard.stdout


def test_ctrl_c_leaves_a_chat_in_peace(realm: CliRealm) -> None:
    with terminal([*CLOISTER, "chat", "ops", "--plain"], realm.environment("alice")) as alice:
        alice.until("Begin chatting!")
        alice.process.send_signal(signal.SIGINT)
        assert alice.end() == 0
        assert b"Traceback" not in alice.screen
    assert realm.run("alice", "room", "list").returncode == 0


def test_ctrl_c_ends_listen_with_130(realm: CliRealm) -> None:
    with terminal([*CLOISTER, "listen"], realm.environment("alice")) as alice:
        alice.until("relay: online")
        alice.process.send_signal(signal.SIGINT)
        assert alice.end() == 130
        assert b"Traceback" not in alice.screen


def test_ctrl_c_stops_a_relay_in_good_order(realm: CliRealm) -> None:
    place = str(realm.folder / "second")
    assert realm.run("admin", "relay", "init", "--folder", place, "--port", "17443").returncode == 0
    with terminal([*CLOISTER, "relay", "run", "--folder", place], realm.environment("admin")) as relay:
        relay.until("the relay listens on port 17443; Ctrl+C stops it")
        assert json.loads(realm.run("admin", "relay", "status", "--json", "--folder", place).stdout)["running"] is True
        relay.type("\x03")
        assert relay.end() == 0
    assert b'"event": "stopped"' in relay.screen
    assert json.loads(realm.run("admin", "relay", "status", "--json", "--folder", place).stdout)["running"] is False


def test_a_password_that_a_chat_asks_for_reaches_no_room(realm: CliRealm) -> None:
    environment = realm.environment("alice", CLOISTER_PASSPHRASE_FILE="")
    with terminal([*CLOISTER, "listen"], realm.environment("alice")) as owner:
        owner.until("relay: online")
        with terminal([*CLOISTER, "chat", "ops", "--plain"], environment) as chat:
            chat.until("Begin chatting!")
            owner.process.kill()
            chat.until("Password of profile alice:")
            chat.type(PASSWORD + "\n")
            chat.until("relay: online")
            chat.type("in the clear\n")
            chat.type("\x04")
            assert chat.end() == 0
    history = realm.run("bob", "listen", "ops", "--count", "1", "--timeout", "20").stdout
    assert "in the clear" in history
    assert PASSWORD not in history


# --- prompts ------------------------------------------------------------------------------------------------


def test_setup_asks_and_shows_no_password(realm: CliRealm) -> None:
    link = realm.run("admin", "relay", "invite", "create", "--folder", str(realm.relay), "-q").stdout.strip()
    environment = realm.environment("carol")
    del environment["CLOISTER_PASSPHRASE_FILE"]
    with terminal([*CLOISTER, "setup"], environment) as carol:
        carol.until("Invite link:")
        carol.type(link + "\n")
        carol.until("Your name in the realm:")
        carol.type("carol\n")
        carol.until("New password:")
        carol.type("my own secret\n")
        carol.until("Repeat for confirmation:")
        carol.type("my own secret\n")
        carol.until("Welcome to home, carol.")
        assert carol.end() == 0
    assert b"my own secret" not in carol.screen
    assert len(re.findall(rb"\d\d?\. [a-z]{5}", carol.screen)) == 12
    with terminal([*CLOISTER, "users"], environment) as users:
        users.until("Password of profile carol:")
        users.type("a wrong one\n")
        assert users.end() == 5
    assert b"a wrong one" not in users.screen
    with terminal([*CLOISTER, "users"], environment) as users:
        users.until("Password of profile carol:")
        users.type("my own secret\n")
        assert users.end() == 0
    assert b"(you)" in users.screen


@pytest.mark.parametrize("command", [["users"], ["chat", "ops"], ["listen"], ["send", "ops", "text"], ["doctor"]])
def test_one_ctrl_c_ends_the_question_for_a_password(command: list[str], realm: CliRealm) -> None:
    with terminal([*CLOISTER, *command], realm.environment("bob", CLOISTER_PASSPHRASE_FILE="")) as bob:
        bob.until("Password of profile bob:")
        bob.type("\x03")
        assert bob.end(10) == 130
    assert b"Traceback" not in bob.screen


def test_revoking_asks_first(realm: CliRealm) -> None:
    command = [*CLOISTER, "authority", "revoke", "dave/main", "--folder", str(realm.relay)]
    with terminal(command, realm.environment("admin")) as admin:
        admin.until("Shut dave/main out for good? [y/N]:")
        admin.type("n\n")
        assert admin.end() == 130


# --- the demo, live -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", [True, False])
def test_the_demo_is_shown_live_and_then_reported(colour: bool, realm: CliRealm) -> None:
    environment = realm.environment("admin")
    if colour:
        del environment["NO_COLOR"]
    with terminal([*CLOISTER, "demo"], environment) as demo:
        demo.until("has reached")
        demo.until("talked through a relay that cannot read", 60)
        assert demo.end() == 0
    assert b"What the relay stored" in demo.screen
    coloured = re.search(rb"\x1b\[(1;|0;)?3[0-9]m", demo.screen) is not None
    assert coloured is colour


def test_the_password_stands_nowhere(realm: CliRealm) -> None:
    found = [path for path in realm.folder.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert found == [Path(realm.folder / "password")]
