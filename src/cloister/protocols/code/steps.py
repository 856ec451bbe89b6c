"""The steps of suite `code` that a fix changed, each one function; and the checks and forms of its messages.

Source: docs/spec/classic/code.md, document 004. The suite calls these methods and nothing else where a fix matters,
so `lab.originals.code` shows what the document did by overriding exactly one of them.

    D1 commit  C -> J   ["commit", c]              c = H("code dhc", sid, "C", X_C, r)
    D2 dh      J -> C   ["dh", X_J]
    D3 open    C -> J   ["open", X_C, r, MAC(kc_C, "code confirm C", th)]
    D4 done    J -> C   ["done", MAC(kc_J, "code confirm J", th)]

    X = g^x mod p (group 14), 256 bytes     th = H("code dh", sid, X_C, X_J, mode)
    keys = the House's schedule of HKDF-Extract(th, Z)   (docs/spec/record.md; Z || resume when the two meet again)

"C" is who opens, "J" who answers: creator and joiner at first; when they meet again, whoever came first.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.primitives import modp
from cloister.primitives.labelled import derive, hash_of, labelled, mac, verify_mac
from cloister.protocols.checks import check, named
from cloister.protocols.code.forms import SAS_BYTES
from cloister.protocols.forms import HASH
from cloister.protocols.record import Schedule, schedule

NAME: Final = "code"
OPENING: Final = 32
FULL: Final = "code"
"""Mode: the code's secret half picks the generator."""
SAS: Final = "sas"
"""Mode: only the id was typed; both people compare the short authentication string."""
AGAIN: Final = "again"
"""Mode of a later agreement between the same two, with what the last one left to both."""
GUESSES: Final = 3
"""Runs that a creator opens for one code (F5.6)."""
OPENER: Final = "C"
ANSWERER: Final = "J"


@dataclass(frozen=True, slots=True)
class Committed:
    """D1: what the opener's public value will be."""

    commitment: bytes


@dataclass(frozen=True, slots=True)
class Public:
    """D2: the answerer's public value, 256 bytes."""

    element: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """D3: the opener's public value, what opens D1, and the proof that the opener holds the key."""

    element: bytes
    opening: bytes
    mac: bytes


@dataclass(frozen=True, slots=True)
class Finished:
    """D4: the proof that the answerer holds the key."""

    mac: bytes


Message = Committed | Public | Opened | Finished


def encode(message: Message) -> bytes:
    """The bytes that the rendezvous carries."""
    match message:
        case Committed():
            return enc("commit", message.commitment)
        case Public():
            return enc("dh", message.element)
        case Opened():
            return enc("open", message.element, message.opening, message.mac)
        case Finished():
            return enc("done", message.mac)


def decode(data: bytes) -> Message:
    """What `encode` gave; PeerError bad_encoding, or unsupported for another kind."""
    fields = Fields.decode(data, "message")
    kind = fields.text("kind", 16)
    message: Message
    if kind == "commit":
        message = Committed(fields.octets("commitment", HASH))
    elif kind == "dh":
        message = Public(fields.octets("element", most=modp.SIZE))
    elif kind == "open":
        message = Opened(
            fields.octets("element", most=modp.SIZE), fields.octets("opening", OPENING), fields.octets("mac", HASH)
        )
    elif kind == "done":
        message = Finished(fields.octets("mac", HASH))
    else:
        raise PeerError("unsupported", "an unknown handshake message")
    fields.end()
    return message


class Steps:
    """What the fixes made of document 004, one method per fix; no state."""

    def generator(self, sid: str, secret: str) -> int:
        """F5.1: the code's secret half picks the generator; without it the group's own."""
        return modp.generator(labelled("g14", sid, secret)) if secret else modp.G

    def must_compare(self, mode: str) -> bool:
        """F5.1: where no secret was typed, both people compare before anything is sent."""
        return mode == SAS

    def commitment(self, sid: str, element: bytes, opening: bytes) -> bytes:
        """F5.2: the opener is bound to its public value before it sees the other's."""
        return hash_of("code dhc", sid, OPENER, element, opening)

    def element(self, data: bytes) -> int:
        """F5.3: a received element: 256 bytes, 1 < Y < p-1."""
        return modp.element(data)

    def shared(self, element: int, exponent: int) -> bytes:
        """F5.3: Z, 256 bytes; 1 and p-1 are refused."""
        return modp.power(element, exponent)

    def chains(self, first: Schedule) -> tuple[bytes, bytes]:
        """F5.4: one key for each direction (k_C, k_J); each seals with a counter."""
        return first.chains[0], first.chains[1]

    def role(self, role: str) -> str:
        """F5.5: what names the sender in a key and a MAC, so that nobody's own words come back to it."""
        return role

    def guesses(self) -> int:
        """F5.6: runs that a creator opens for one code before the code is burnt."""
        return GUESSES


# --- keys ----------------------------------------------------------------------------------------------------------


def transcript(sid: str, opener: bytes, answerer: bytes, mode: str) -> bytes:
    """th, 32 bytes."""
    return hash_of("code dh", sid, opener, answerer, mode)


def keys(steps: Steps, th: bytes, z: bytes, resume: bytes) -> Schedule:
    """The keys of an epoch: the House's schedule, with the two chains that the step gives."""
    made = schedule(NAME, th, z + resume, 2)
    return Schedule(
        th=made.th,
        chains=steps.chains(made),
        confirm=made.confirm,
        exporter=made.exporter,
        resume=made.resume,
        key_check=made.key_check,
    )


def confirm_key(steps: Steps, confirm: bytes, role: str) -> bytes:
    """kc_C or kc_J, 32 bytes."""
    return derive(confirm, "code confirm key", steps.role(role))


def confirmation(steps: Steps, agreed: Schedule, role: str) -> bytes:
    """The MAC of D3 (role C) or D4 (role J)."""
    return mac(confirm_key(steps, agreed.confirm, role), f"code confirm {steps.role(role)}", agreed.th)


def sas_of(confirm: bytes) -> bytes:
    """The 40 bits that people compare, from the confirm key."""
    return derive(confirm, "code sas", length=SAS_BYTES)


# --- checks --------------------------------------------------------------------------------------------------------


@check("COD-01")
def check_element(steps: Steps, data: bytes) -> None:
    """PeerError("bad_element") unless it has 256 bytes and 1 < Y < p-1."""
    with named("COD-01"):
        steps.element(data)


@check("COD-02")
def check_opening(steps: Steps, sid: str, commitment: bytes, message: Opened) -> None:
    """PeerError("commit_mismatch") unless D3 opens what D1 committed to."""
    if not hmac.compare_digest(commitment, steps.commitment(sid, message.element, message.opening)):
        raise PeerError("commit_mismatch", check="COD-02")


@check("COD-03")
def check_confirmation(steps: Steps, agreed: Schedule, role: str, tag: bytes) -> None:
    """PeerError("wrong_code_or_mitm") unless the sender of this role holds the same key."""
    key = confirm_key(steps, agreed.confirm, role)
    with named("COD-03"):
        verify_mac(tag, key, f"code confirm {steps.role(role)}", agreed.th, code="wrong_code_or_mitm")
