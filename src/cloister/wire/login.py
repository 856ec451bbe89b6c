"""The login of the whole product: a mutual proof of keys, bound to both nonces and to the TLS certificate.

Source: docs/spec/login.md (document 001's signed nonce and timestamp, fix F2.1).

    L1 hello      C -> S   device | null, nc(32), versions
    L2 challenge  S -> C   ns(32), ts_S, version, server_id, identity key, chain_S,
                           Sign_S("login-s", SHA-256(L1), version, ns, ts_S, tls)
    L3 login      C -> S   chain_C, ts_C, Sign_C("login-c", SHA-256(L1), SHA-256(L2), SHA-256(chain_S), ts_C, tls)
    L4 welcome    S -> C   connection id, incarnation, head key, realm head, mail count

Invariants
- `tls` is the SHA-256 of the server certificate that each side itself sees on this connection.
- The nonces give freshness; a clock more than limits.CLOCK away is `clock_skew` and carries the relay's time.
- A challenge is answered once and within limits.CHALLENGE_LIFE (`replay`).
- The relay's identity key is the one pinned at enrolment (`wrong_realm` otherwise); the device's key is the one
  that the realm log has for it.

Checks: LOGIN-01 relay signature, LOGIN-02 pinned relay key, LOGIN-03 clock, LOGIN-04 device signature,
LOGIN-05 challenge age (and, at the relay, single use), LOGIN-06 realm head, LOGIN-07 version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cloister.codec.cbor import enc
from cloister.errors import PeerError, UnavailableError
from cloister.primitives import Rng
from cloister.primitives.kdf import sha256
from cloister.primitives.labelled import Signer, sign, verify
from cloister.primitives.signature import VerifyKey
from cloister.wire import limits, versions
from cloister.wire.frames import REALM_LOG, Challenge, Hello, Login, Welcome, digest
from cloister.wire.log import HeadKeys

NO_TLS: Final = bytes(32)
"""The value of `tls` on a connection without TLS (raw TCP on this machine): no device logs in there."""


def hello(device: str | None, rng: Rng) -> Hello:
    """L1, with a fresh nonce; `device` is None before enrolment."""
    return Hello(device=device, nonce=rng(32), versions=list(versions.SUPPORTED))


def challenge(
    first: Hello,
    server_id: str,
    key: Signer,
    identity_key: bytes,
    chain: list[bytes],
    tls: bytes,
    now: int,
    rng: Rng,
) -> Challenge:
    """L2, signed by the relay's identity key (32 raw bytes: `identity_key`)."""
    nonce, version = rng(32), versions.choose(first.versions)
    return Challenge(
        nonce=nonce,
        ts_ms=now,
        version=version,
        server_id=server_id,
        identity_key=identity_key,
        chain=chain,
        signature=sign(key, "login-s", digest(first), version, nonce, now, tls),
    )


def check_challenge(first: Hello, second: Challenge, pin: bytes, tls: bytes, now: int) -> VerifyKey:
    """The client's checks of L2; gives the relay's identity key. `pin` is its SPKI hash (32 bytes)."""
    key = VerifyKey("ed25519", second.identity_key)
    if sha256(key.spki()) != pin:  # LOGIN-02; both values are public
        raise PeerError("wrong_realm", "the relay's identity key is not the pinned one")
    if second.version not in first.versions:  # LOGIN-07
        raise PeerError("bad_encoding", "a version that was not offered")
    verify(  # LOGIN-01
        key, second.signature, "login-s", digest(first), second.version, second.nonce, second.ts_ms, tls
    )
    check_clock(second.ts_ms, now)
    return key


def check_clock(theirs: int, ours: int) -> None:
    """UnavailableError("clock_skew") when two clocks differ by more than two minutes."""
    if abs(theirs - ours) > limits.CLOCK.value:
        raise UnavailableError("clock_skew", f"by {abs(theirs - ours) // 1000} seconds")  # LOGIN-03


def login(first: Hello, second: Challenge, key: Signer, chain: list[bytes], tls: bytes, now: int) -> Login:
    """L3, signed by the device key."""
    return Login(chain=chain, ts_ms=now, signature=sign(key, "login-c", *_l3_items(first, second, now, tls)))


def check_login(first: Hello, second: Challenge, third: Login, key: VerifyKey, tls: bytes, now: int) -> None:
    """The relay's checks of L3; `key` is the device's in the realm log."""
    if now - second.ts_ms > limits.CHALLENGE_LIFE.value:  # LOGIN-05
        raise PeerError("replay", "the challenge is too old")
    check_clock(third.ts_ms, now)
    verify(key, third.signature, "login-c", *_l3_items(first, second, third.ts_ms, tls))  # LOGIN-04


def _l3_items(first: Hello, second: Challenge, ts_ms: int, tls: bytes) -> tuple[object, ...]:
    return digest(first), digest(second), sha256(enc(second.chain)), ts_ms, tls


@dataclass(frozen=True, slots=True)
class Welcomed:
    """What a client knows after L4: whose heads count from now on."""

    head_keys: HeadKeys
    welcome: Welcome


def check_welcome(realm: str, identity: VerifyKey, fourth: Welcome) -> Welcomed:
    """The head key is certified (the log's own check), and the realm head is signed with it."""
    keys = HeadKeys.certified(realm, identity, [fourth.head_key])
    keys.verify(REALM_LOG, fourth.realm_head)  # LOGIN-06
    return Welcomed(keys, fourth)
