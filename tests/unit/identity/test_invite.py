"""Invite links: they read back, and every other text is refused with a reason.

Checks: INVITE-01, INVITE-02, INVITE-03, INVITE-04.
"""

from __future__ import annotations

import dataclasses
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import PeerError
from cloister.identity.invite import Invite, Token, parse_invite, stored_proof
from support.people import seeded

RNG = seeded("invite")
TOKEN = Token.generate(RNG)
PLAIN = Invite(
    host="relay.example",
    port=7443,
    realm="home.example",
    relay_hash=RNG(32),
    root_hash=RNG(32),
    token=TOKEN,
    inviter=RNG(32),
)
ROOM = Invite(
    host="[::1]",
    port=65535,
    realm="a",
    relay_hash=RNG(32),
    root_hash=RNG(32),
    token=TOKEN,
    room=(RNG(16), RNG(32)),
)
LINK = str(PLAIN)


def refused(text: str, reason: str) -> None:
    with pytest.raises(PeerError, match=reason) as caught:
        parse_invite(text)
    assert caught.value.code == "bad_invite"


@pytest.mark.parametrize("invite", [PLAIN, ROOM])
def test_a_link_reads_back(invite: Invite) -> None:
    assert parse_invite(str(invite)) == invite
    assert parse_invite(f"\n  {invite}  \n") == invite


def test_a_link_has_its_documented_form() -> None:
    head, tail = LINK.split("#")
    assert head == "cloister:join?relay=relay.example:7443&realm=home.example"
    assert [len(part) for part in tail.split(".")] == [1, 43, 43, 64, 43]
    assert [len(part) for part in str(ROOM).split("#")[1].split(".")] == [1, 43, 43, 64, 0, 22, 43]


@given(st.binary(min_size=48, max_size=48), st.integers(1, 65535), st.booleans(), st.booleans())
def test_every_link_reads_back(token: bytes, port: int, inviter: bool, room: bool) -> None:
    invite = Invite(
        host="h",
        port=port,
        realm="r",
        relay_hash=token[:32],
        root_hash=token[16:],
        token=Token(id=token[:16], secret=token[16:]),
        inviter=token[8:40] if inviter else None,
        room=(token[:16], token[16:]) if room else None,
    )
    assert parse_invite(str(invite)) == invite


@given(st.integers(0, len(LINK) - 1), st.characters(codec="utf-8"))
def test_a_mistyped_link_is_refused_or_another_link(at: int, letter: str) -> None:
    text = LINK[:at] + letter + LINK[at + 1 :]
    try:
        invite = parse_invite(text)
    except PeerError as error:
        assert error.code == "bad_invite"  # noqa: PT017 - both ends are allowed
        return
    assert str(invite) == text.strip()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "form"),
        ("https://relay.example/join", "form"),
        ("cloister:link?relay=relay.example:7443&realm=home.example#1", "form"),
        (LINK.replace("cloister:join", "cloister:link"), "form"),
        (LINK.replace("&realm=", "&other=1&realm="), "form"),
        (LINK.replace("#", "#!"), "form"),
        (LINK + "?", "form"),
        (LINK + " more", "form"),
        ("x" * 2000, "form"),
        (LINK.replace(":7443", ""), "HOST:PORT"),
        (LINK.replace(":7443", ":0"), "HOST:PORT"),
        (LINK.replace(":7443", ":07443"), "HOST:PORT"),
        (LINK.replace(":7443", ":65536"), "HOST:PORT"),
        (LINK.replace("relay.example:", ":"), "HOST:PORT"),
        (LINK.replace("relay.example:", "user@relay.example:"), "HOST:PORT"),
        (LINK.replace("relay.example:", "relay.example/x:"), "HOST:PORT"),
        (LINK.replace("relay.example:", "::1:"), "HOST:PORT"),
        (LINK.replace("home.example", "Home.example"), "realm"),
        (LINK.replace("home.example", ""), "realm"),
        (LINK.replace("#1.", "#2."), "version"),
        (LINK.split("#")[0] + "#", "version"),
        (LINK.rsplit(".", 1)[0], "cut off"),
        (LINK + ".AAAA", "cut off"),
        (LINK + ".AAAA.AAAA.AAAA", "cut off"),
        (LINK[:-1], "inviter"),
        (LINK + "A", "inviter"),
        (LINK + "==", "form"),
        (LINK + ".AAAA.AAAA", "room"),
        (str(ROOM)[:-2], "seed"),
    ],
)
def test_a_text_of_another_form_is_refused(text: str, reason: str) -> None:
    refused(text, reason)


@pytest.mark.parametrize(("part", "reason"), [(1, "relay's key"), (2, "authority's key"), (3, "token")])
def test_a_damaged_part_is_named(part: int, reason: str) -> None:
    head, tail = LINK.split("#")
    parts = tail.split(".")
    for spoiled in (*([""] if part < 3 else []), parts[part][:-1], parts[part] + "A", parts[part][:-4]):
        refused(f"{head}#{'.'.join([*parts[:part], spoiled, *parts[part + 1 :]])}", reason)


def test_a_second_spelling_of_the_same_bytes_is_refused() -> None:
    head, tail = LINK.split("#")
    parts = tail.split(".")
    last = urlsafe_b64encode(PLAIN.relay_hash).decode().rstrip("=")
    other = last[:-1] + chr(ord(last[-1]) + 1)
    refused(f"{head}#{'.'.join(['1', other, *parts[2:]])}", "relay's key")


def test_the_secret_never_shows_in_repr() -> None:
    shown = repr((PLAIN, ROOM))
    assert repr(TOKEN.secret) not in shown
    assert TOKEN.secret.hex() not in shown
    assert ROOM.room is not None
    assert repr(ROOM.room[1]) not in shown


def test_the_secret_splits() -> None:
    other = Token(id=TOKEN.id, secret=bytes(32))
    renamed = Token(id=bytes(16), secret=TOKEN.secret)
    values = [
        *(token.relay_proof() for token in (TOKEN, other, renamed)),
        *(token.peer_key() for token in (TOKEN, other, renamed)),
        stored_proof(TOKEN.relay_proof()),
        TOKEN.secret,
    ]
    assert len(set(values)) == len(values)
    assert {len(value) for value in values} == {32}


def test_a_link_without_a_token_is_for_a_realm_where_anybody_registers() -> None:
    link = dataclasses.replace(PLAIN, token=None, inviter=None)
    assert parse_invite(str(link)) == link
    assert str(link).endswith("..")
