"""Names of realms, users and devices.

Checks: NAME-01, NAME-02, NAME-03, NAME-04, NAME-05.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import PeerError
from cloister.identity.credential import (
    MAX_DEVICE_ID,
    device_id,
    device_name,
    parse_device_id,
    realm_name,
    relay_id,
    user_name,
)

BAD_NAMES = ["", "A", "Alice", "-a", ".a", "_a", "a" * 33, "a b", "a/b", "ä", "a\n", "a%20", "\u0661"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("check", [user_name, device_name])
def test_a_name_of_another_form_is_refused(name: str, check: object) -> None:
    with pytest.raises(PeerError) as caught:
        check(name)  # type: ignore[operator]
    assert caught.value.code == "bad_name"


@pytest.mark.parametrize(
    "name", ["", ".", "a.", ".a", "a..b", "-a", "a-", "A.example", "a_b", "a:1", "a/b", "a" * 65, "ö.example"]
)
def test_a_realm_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(PeerError) as caught:
        realm_name(name)
    assert caught.value.code == "bad_name"


@pytest.mark.parametrize("name", ["a", "0", "alice", "a.b_c-d", "a-", "a" * 32])
def test_names_are_taken_as_they_are(name: str) -> None:
    assert user_name(name) == device_name(name) == name


@pytest.mark.parametrize("name", ["a", "home.example", "a-b.c-d", "localhost", "10.0.0.1", "a" * 64])
def test_realms_are_taken_as_they_are(name: str) -> None:
    assert realm_name(name) == name


def test_ids_have_their_documented_form() -> None:
    assert device_id("home.example", "alice", "phone") == "cloister://home.example/u/alice/d/phone"
    assert relay_id("home.example") == "cloister://home.example/relay"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "cloister://home.example/relay",
        "cloister://home.example/u/alice",
        "cloister://home.example/u/alice/d/",
        "cloister://home.example/u/alice/d/phone/",
        "cloister://home.example/d/alice/u/phone",
        "cloister://home.example/u/alice/u/phone",
        "Cloister://home.example/u/alice/d/phone",
        "http://home.example/u/alice/d/phone",
        "cloister:/x/home.example/u/alice/d/phone",
        "cloister://Home.example/u/alice/d/phone",
        "cloister://home.example/u/Alice/d/phone",
        "cloister://home.example/u/alice/d/Phone",
        "cloister://home.example/u/alice/d/phone\n",
        " cloister://home.example/u/alice/d/phone",
        "cloister://" + "r" * 64 + "/u/" + "u" * 32 + "/d/" + "d" * 32,
    ],
)
def test_what_is_no_device_id_is_refused(uri: str) -> None:
    with pytest.raises(PeerError) as caught:
        parse_device_id(uri)
    assert caught.value.code == "bad_name"


def test_a_device_id_has_at_most_128_bytes() -> None:
    room = MAX_DEVICE_ID - len("cloister:///u//d/") - 32 - 32
    uri = device_id("r" * room, "u" * 32, "d" * 32)
    assert len(uri) == MAX_DEVICE_ID
    assert parse_device_id(uri)[0] == "r" * room
    with pytest.raises(PeerError) as caught:
        device_id("r" * (room + 1), "u" * 32, "d" * 32)
    assert caught.value.code == "bad_name"


NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,31}", fullmatch=True)


@given(NAMES, NAMES)
def test_a_device_id_reads_back(user: str, device: str) -> None:
    assert parse_device_id(device_id("home.example", user, device)) == ("home.example", user, device)


@given(st.text(max_size=40))
def test_whatever_is_accepted_has_one_spelling(text: str) -> None:
    try:
        parts = parse_device_id("cloister://home.example/u/" + text)
    except PeerError:
        return
    assert device_id(*parts) == "cloister://home.example/u/" + text
