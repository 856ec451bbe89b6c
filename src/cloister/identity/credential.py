"""Names: realms, users, devices, and the URIs that certificates carry.

Source: docs/spec/identity.md ("Names").

    realm      host-like, 1 to 64 of a-z 0-9 . -          home.example
    user       1 to 32 of a-z 0-9 . _ -, alphanumeric first
    device     as a user name                             phone
    device id  cloister://REALM/u/USER/d/DEVICE           at most 128 bytes
    relay id   cloister://REALM/relay

Invariants
- A name has exactly one spelling: ASCII, lower case, nothing to normalise, escape or fold.
- `device_id(*parse_device_id(x)) == x` for every x that is accepted.
- A name that is not of the form is PeerError("bad_name"); a relay id is never a device id.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from cloister.errors import PeerError

MAX_DEVICE_ID: Final = 128
"""Bytes of the longest device id."""

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_REALM: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_MAX_REALM: Final = 64


def realm_name(text: str) -> str:
    """`text` if it may name a realm: host-like, at most 64 characters; else PeerError("bad_name")."""
    if len(text) > _MAX_REALM or _REALM.fullmatch(text) is None:  # NAME-01
        raise PeerError("bad_name", "a realm is named like a host: 1 to 64 of a-z 0-9 . -")
    return text


def user_name(text: str) -> str:
    """`text` if it may name a user: 1 to 32 characters; else PeerError("bad_name")."""
    if _NAME.fullmatch(text) is None:  # NAME-02
        raise PeerError("bad_name", "a user is named by 1 to 32 of a-z 0-9 . _ -, a letter or digit first")
    return text


def device_name(text: str) -> str:
    """`text` if it may name a device: 1 to 32 characters; else PeerError("bad_name")."""
    if _NAME.fullmatch(text) is None:  # NAME-02
        raise PeerError("bad_name", "a device is named by 1 to 32 of a-z 0-9 . _ -, a letter or digit first")
    return text


def device_id(realm: str, user: str, device: str) -> str:
    """The device's URI, at most 128 bytes; PeerError("bad_name") when a part or the whole does not fit."""
    uri = f"cloister://{realm_name(realm)}/u/{user_name(user)}/d/{device_name(device)}"
    if len(uri) > MAX_DEVICE_ID:  # NAME-03
        raise PeerError("bad_name", "the names of realm, user and device are too long together")
    return uri


@lru_cache(maxsize=4096)
def parse_device_id(uri: str) -> tuple[str, str, str]:
    """(realm, user, device) of a device id; PeerError("bad_name") for anything else."""
    parts = uri.split("/")
    if len(uri) > MAX_DEVICE_ID or len(parts) != 7:  # NAME-04
        raise PeerError("bad_name", "not a device id")
    scheme, empty, realm, u, user, d, device = parts
    if (scheme, empty, u, d) != ("cloister:", "", "u", "d"):  # NAME-05
        raise PeerError("bad_name", "not a device id")
    return realm_name(realm), user_name(user), device_name(device)


def relay_id(realm: str) -> str:
    """The relay's URI in `realm`."""
    return f"cloister://{realm_name(realm)}/relay"
