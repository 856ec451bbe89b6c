"""The login of guests: the same challenge as a device's, answered with a key that was made for one session.

Source: docs/spec/login.md ("Guests"), docs/spec/classic/code.md.

    L3 guest   C -> S   key, ts_C, Sign_key("login-guest", SHA-256(L1), SHA-256(L2), ts_C, tls)

The key proves nothing but that it is the same guest as before. A guest that has met no relay before pins nothing: what
protects the two is their code or the string that they compare.

Checks: LOGIN-03 clock, LOGIN-05 age, LOGIN-08 the guest's signature.
"""

from __future__ import annotations

from cloister.errors import PeerError
from cloister.primitives.kdf import sha256
from cloister.primitives.labelled import sign, verify
from cloister.primitives.signature import SigningKey, VerifyKey
from cloister.wire import limits
from cloister.wire.frames import Challenge, GuestLogin, Hello, digest
from cloister.wire.login import check_clock


def guest_login(first: Hello, second: Challenge, key: SigningKey, tls: bytes, now: int) -> GuestLogin:
    """L3, signed by the guest's key."""
    signature = sign(key, "login-guest", digest(first), digest(second), now, tls)
    return GuestLogin(key=key.public.raw, ts_ms=now, signature=signature)


def check_guest(first: Hello, second: Challenge, third: GuestLogin, tls: bytes, now: int) -> None:
    """The relay's checks of L3; PeerError replay or bad_sig, UnavailableError clock_skew."""
    if now - second.ts_ms > limits.CHALLENGE_LIFE.value:  # LOGIN-05
        raise PeerError("replay", "the challenge is too old")
    check_clock(third.ts_ms, now)
    key = VerifyKey("ed25519", third.key)
    verify(key, third.signature, "login-guest", digest(first), digest(second), third.ts_ms, tls)  # LOGIN-08


def guest_device(key: bytes) -> str:
    """How the relay names a guest in its counts: no device id, and never shown."""
    return f"guest/{sha256(key)[:16].hex()}"


def own_pin(second: Challenge) -> bytes:
    """The pin of the relay that speaks: what a guest keeps who meets it for the first time; 32 bytes."""
    return sha256(VerifyKey("ed25519", second.identity_key).spki())
