"""The checker itself, with planted faults: each kind is found, and a history without faults has no finding."""

from __future__ import annotations

import pytest

from cloister.testing.history_checker import Finding, History, check

CLIENTS = ("alice", "bob", "carol")
TEXTS = {f"m{n}": f"text {n}" for n in range(1, 7)}


def good() -> History:
    """Six messages of three members, all acknowledged, shown by everybody."""
    history = History()
    for client in CLIENTS:
        history.member(client, "room")
    for n, (message, text) in enumerate(TEXTS.items()):
        history.sent(CLIENTS[n % 3], "room", message, text)
        history.acked(CLIENTS[n % 3], "room", message, seq=n + 10)
    for client in CLIENTS:
        for n, (message, text) in enumerate(TEXTS.items()):
            history.shown(client, "room", message, text, seq=n + 10)
    return history


def kinds(history: History) -> set[tuple[str, str, str]]:
    return {(finding.kind, finding.client, finding.message) for finding in check(history)}


def without(history: History, client: str, message: str, what: str = "shown") -> History:
    return History([e for e in history.events if not (e.what == what and e.client == client and e.message == message)])


def test_a_history_without_faults_has_no_finding() -> None:
    assert check(good()) == []


def test_an_acknowledged_message_that_is_not_shown_is_lost() -> None:
    assert check(without(good(), "bob", "m6")) == [Finding("lost", "bob", "room", "m6", "acknowledged to carol")]


def test_its_own_sender_must_show_it_too() -> None:
    assert kinds(without(good(), "carol", "m6")) == {("lost", "carol", "m6")}


def test_a_message_in_the_middle_that_was_not_acknowledged_is_a_gap() -> None:
    history = without(without(good(), "carol", "m3", "acked"), "bob", "m3")
    assert kinds(history) == {("gap", "bob", "m3")}


def test_a_message_shown_twice_is_found() -> None:
    history = good()
    history.shown("alice", "room", "m6", TEXTS["m6"], seq=15)
    assert kinds(history) == {("twice", "alice", "m6")}


def test_an_earlier_place_after_a_later_one_is_found() -> None:
    history = good()
    history.shown("alice", "room", "m2", TEXTS["m2"], seq=11)
    assert kinds(history) == {("twice", "alice", "m2"), ("order", "alice", "m2")}


def test_another_order_at_another_client_is_found_without_places() -> None:
    history = History()
    for message in ("m1", "m2"):
        history.sent("alice", "room", message, TEXTS[message])
    for client, order in (("alice", ("m1", "m2")), ("bob", ("m2", "m1"))):
        for message in order:
            history.shown(client, "room", message, TEXTS[message])
    assert kinds(history) == {("order", "bob", "m2")}


def test_one_message_at_two_places_is_found() -> None:
    history = without(good(), "carol", "m6")
    history.shown("carol", "room", "m6", TEXTS["m6"], seq=99)
    assert kinds(history) == {("unclear", "carol", "m6")}


def test_an_altered_message_is_found() -> None:
    history = without(good(), "bob", "m6")
    history.shown("bob", "room", "m6", "another text", seq=15)
    assert kinds(history) == {("altered", "bob", "m6")}


def test_an_invented_message_is_found() -> None:
    history = good()
    history.shown("bob", "room", "m7", "never sent", seq=16)
    assert kinds(history) == {("invented", "bob", "m7")}


def test_nobody_must_show_what_was_stored_before_it_joined_or_after_it_left() -> None:
    history = good()
    history.member("dora", "room", since=12, until=14)
    for n in (3, 4, 5):
        history.shown("dora", "room", f"m{n}", TEXTS[f"m{n}"], seq=n + 9)
    assert check(history) == []
    assert kinds(without(history, "dora", "m5")) == {("lost", "dora", "m5")}


def test_what_was_never_acknowledged_may_be_missing_at_the_end() -> None:
    history = without(good(), "carol", "m6", "acked")
    assert check(without(history, "bob", "m6")) == []


def test_rooms_do_not_mix() -> None:
    history = good()
    history.sent("alice", "other", "m1", "of another room")
    history.shown("bob", "other", "m1", "of another room", seq=1)
    assert check(history) == []


@pytest.mark.parametrize("cut", [0, 1, 30])
def test_a_history_survives_a_file_and_a_line_that_was_cut(cut: int) -> None:
    lines = list(good().dump())
    if cut:
        lines.append(lines[-1][:cut])
    assert History.load(lines) == good()
