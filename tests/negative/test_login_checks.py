"""The checks of the login, each with what it refuses; docs/spec/login.md has the messages.

LOGIN-01 relay signature, LOGIN-02 pinned relay key, LOGIN-03 clock, LOGIN-04 device signature, LOGIN-05 challenge age,
LOGIN-06 realm head, LOGIN-07 version.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from cloister.errors import CloisterError
from cloister.identity.keys import key_hash
from cloister.primitives.signature import SigningKey, VerifyKey
from cloister.wire import limits, login
from cloister.wire.frames import REALM_LOG, Challenge, Hello, Welcome
from cloister.wire.log import certify_head_key, sign_head

NOW = 1_790_000_000_000
REALM = "home.example"
TLS = b"t" * 32
RELAY, HEAD, DEVICE, OTHER = (SigningKey("ed25519", letter * 32) for letter in (b"r", b"h", b"d", b"o"))
PIN = key_hash(RELAY.public.spki())
CHAIN = [b"certificate"]


def hello() -> Hello:
    return login.hello("cloister://home.example/u/alice/d/phone", lambda size: b"n" * size)


def challenge(first: Hello, key: SigningKey = RELAY, tls: bytes = TLS, now: int = NOW) -> Challenge:
    public = key.public.raw
    return login.challenge(
        first, "cloister://home.example/relay", key, public, CHAIN, tls, now, lambda size: b"s" * size
    )


def code_of(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(CloisterError) as refused:
        call(*arguments)
    return refused.value.code


def test_login_01_a_challenge_that_the_relay_did_not_sign_is_refused() -> None:
    first = hello()
    second = challenge(first)
    for altered in (
        replace(second, nonce=b"x" * 32),
        replace(second, ts_ms=NOW + 1),
        replace(second, signature=challenge(first, OTHER).signature),
    ):
        assert code_of(login.check_challenge, first, altered, PIN, TLS, NOW) == "bad_sig"
    another = replace(first, nonce=b"x" * 32)
    assert code_of(login.check_challenge, another, second, PIN, TLS, NOW) == "bad_sig"


def test_login_01_a_challenge_from_another_tls_connection_is_refused() -> None:
    """A relay in the middle, with a certificate of its own, cannot pass the real relay's challenge on."""
    first = hello()
    assert code_of(login.check_challenge, first, challenge(first, tls=b"m" * 32), PIN, TLS, NOW) == "bad_sig"


def test_login_02_another_relay_than_the_pinned_one_is_refused() -> None:
    first = hello()
    assert code_of(login.check_challenge, first, challenge(first, OTHER), PIN, TLS, NOW) == "wrong_realm"


@pytest.mark.parametrize("side", [1, -1])
def test_login_03_clocks_that_differ_by_more_than_two_minutes_are_refused(side: int) -> None:
    first, skew = hello(), side * limits.CLOCK.value
    login.check_challenge(first, challenge(first, now=NOW + skew), PIN, TLS, NOW)
    assert code_of(login.check_challenge, first, challenge(first, now=NOW + skew + side), PIN, TLS, NOW) == "clock_skew"
    second = challenge(first)
    login.check_login(
        first, second, login.login(first, second, DEVICE, CHAIN, TLS, NOW + skew), DEVICE.public, TLS, NOW
    )
    late = login.login(first, second, DEVICE, CHAIN, TLS, NOW + skew + side)
    assert code_of(login.check_login, first, second, late, DEVICE.public, TLS, NOW) == "clock_skew"


def test_login_04_a_login_that_the_device_did_not_sign_for_this_connection_is_refused() -> None:
    first = hello()
    second = challenge(first)
    third = login.login(first, second, DEVICE, CHAIN, TLS, NOW)
    login.check_login(first, second, third, DEVICE.public, TLS, NOW)
    assert code_of(login.check_login, first, second, third, OTHER.public, TLS, NOW) == "bad_sig"
    assert code_of(login.check_login, first, second, third, DEVICE.public, b"m" * 32, NOW) == "bad_sig"
    assert (
        code_of(login.check_login, first, second, replace(third, ts_ms=NOW + 1), DEVICE.public, TLS, NOW) == "bad_sig"
    )
    replayed = replace(second, nonce=b"x" * 32)
    assert code_of(login.check_login, first, replayed, third, DEVICE.public, TLS, NOW) == "bad_sig"


def test_login_05_a_challenge_is_not_answered_after_its_time() -> None:
    first = hello()
    second, life = challenge(first), limits.CHALLENGE_LIFE.value
    third = login.login(first, second, DEVICE, CHAIN, TLS, NOW)
    login.check_login(first, second, third, DEVICE.public, TLS, NOW + life)
    assert code_of(login.check_login, first, second, third, DEVICE.public, TLS, NOW + life + 1) == "replay"


def welcome(head_signer: SigningKey = HEAD, certifier: SigningKey = RELAY) -> Welcome:
    return Welcome(
        connection_id=b"c" * 16,
        incarnation=0,
        head_key=certify_head_key(certifier, REALM, HEAD.public.raw, NOW),
        realm_head=sign_head(head_signer, REALM, REALM_LOG, 0, 1, b"h" * 32),
        mail_count=0,
    )


def test_login_06_a_realm_head_of_another_key_is_refused() -> None:
    identity = VerifyKey("ed25519", RELAY.public.raw)
    login.check_welcome(REALM, identity, welcome())
    assert code_of(login.check_welcome, REALM, identity, welcome(head_signer=OTHER)) == "bad_head"
    assert code_of(login.check_welcome, REALM, identity, welcome(certifier=OTHER)) == "bad_head"
    assert code_of(login.check_welcome, "other.example", identity, welcome()) == "bad_head"


def test_login_07_a_version_that_was_not_offered_is_refused() -> None:
    first = hello()
    second = replace(challenge(first), version=9)
    assert code_of(login.check_challenge, first, second, PIN, TLS, NOW) == "bad_encoding"
