"""A report names everything that is not as it must be."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cloister.apps.cli.demo.command import show
from cloister.apps.cli.demo.report import Report, Told
from cloister.apps.cli.demo.scan import Find
from cloister.apps.cli.demo.stored import Row, Stored
from cloister.apps.cli.output import Settings
from cloister.errors import CloisterError
from support.payloads import PAYLOADS, forbidden

NAMES = ("alice", "bob", "carol")


def told(name: str, /, **changes: Any) -> Told:
    fields: dict[str, Any] = {
        "name": name,
        "pid": 100 + (NAMES.index(name) if name in NAMES else 0),
        "sent": (f"hello from {name}",),
        "received": tuple((other, f"hello from {other}") for other in NAMES if other != name),
        "order": ("1", "2", "3"),
        "key_check": "1234 5678",
        "epoch": 1,
        "entries": 7,
        "head": "ab" * 32,
    }
    return Told(**(fields | changes))


def report(**changes: Any) -> Report:
    row = Row(log="room 01234567", kind="application", size=700, first="00ff" * 8)
    fields: dict[str, Any] = {
        "suite": "nonces",
        "title": "garden",
        "members": tuple(told(name) for name in NAMES),
        "relay_pid": 99,
        "stored": Stored(
            entries=20, bytes=4096, logs={"realm log": (4, 999), "room 01234567": (20, 14190)}, rows=(row,) * 20
        ),
        "found": (),
        "searched": 40,
        "phases": {"start": 1.25, "enrol": 2.0},
    }
    return Report(**(fields | changes))


def changed(name: str, **changes: Any) -> Report:
    good = report()
    return replace(good, members=tuple(replace(one, **changes) if one.name == name else one for one in good.members))


def test_a_good_demo_has_no_failures() -> None:
    assert report().failures() == []
    assert report().record()["ok"] is True


@pytest.mark.parametrize(
    ("bad", "code", "words"),
    [
        (
            changed("bob", received=(("alice", "hello from alice"),)),
            "withheld",
            "bob did not receive a message of carol",
        ),
        (changed("bob", received=(("alice", "hello from alice"), ("carol", "hello"))), "withheld", "bob"),
        (changed("carol", key_check="0000 0000"), "confirm_mismatch", "check value"),
        (changed("carol", head="cd" * 32), "fork", "different heads"),
        (changed("carol", entries=8), "fork", "different heads"),
        (changed("carol", order=("2", "1", "3")), "fork", "orders"),
        (changed("alice", alarms=("bad_chain",)), "bad_chain", "alice caught"),
        (report(found=(Find(name="a message of bob", form="hex", place="relay.log"),)), "leak", "relay.log"),
    ],
)
def test_what_is_wrong_is_named(bad: Report, code: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (code, True) in [(found, words in sentence) for found, sentence in bad.failures()]
    assert bad.record()["ok"] is False
    with pytest.raises(CloisterError) as caught:
        show(Settings(json=True).screen, bad)
    assert caught.value.code == code
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["ok"] is False


def test_members_without_a_check_value_have_not_agreed() -> None:
    members = tuple(told(name, key_check="") for name in NAMES)
    assert [code for code, _ in report(members=members).failures()] == ["confirm_mismatch"]


def test_the_object_holds_what_is_promised() -> None:
    record = json.loads(json.dumps(report().record()))
    assert record["suite"] == "nonces"
    assert record["transport"]
    assert record["members"][0] == {
        "name": "alice",
        "pid": 100,
        "sent": 1,
        "received": 2,
        "key_check": "1234 5678",
    }
    assert record["room"] == {"epoch": 1, "entries": 7, "head": "ab" * 32, "heads_equal": True}
    assert record["relay"] == {"pid": 99, "entries": 20, "bytes": 4096}
    assert record["plaintext_found"] == []


def test_people_see_who_read_what_and_what_the_relay_has() -> None:
    text = "\n".join(report().lines())
    for part in (
        "hello from alice",
        "read by bob, carol",
        "check value 1234 5678",
        "of 7 entries, verified",
        "the same check value and the same head",
        "realm log",
        "00ff 00ff",
        "and 8 more rows",
        "none of them is there",
    ):
        assert part in text


def test_the_suites_milestones_stand_below_what_members_share() -> None:
    shown = report(milestones=("late shares", "bob: \x1b[31mconfirmed"))
    lines = shown.lines()
    at = lines.index("  late shares")
    assert "the same check value" in lines[at - 1]
    assert not forbidden("".join(lines))
    assert shown.record()["milestones"] == ["late shares", "bob: \x1b[31mconfirmed"]


def test_a_find_stands_in_the_report() -> None:
    text = "\n".join(report(found=(Find(name="a message of bob", form="hex", place="relay.log"),)).lines())
    assert "FOUND a message of bob (hex) in relay.log" in text
    assert "none of them" not in text


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_payload_in_a_text_or_name_reaches_the_report(payload: str) -> None:
    one = told("alice", sent=(payload,), name=payload)
    assert not forbidden("\n".join(report(members=(one, told("bob"), told("carol"))).lines()))


def test_the_report_says_where_the_time_went() -> None:
    assert report().lines()[-2:] == ["Where the time went (3.2 s)", "  start 1.2, enrol 2.0"]
    assert report().record()["phases"] == {"start": 1.25, "enrol": 2.0}
    assert report().record()["seconds"] == 3.25
