"""The worked example of docs/spec/classic/code.md: one agreement in each mode, computed by the suite's own code.

Every draw is counting bytes and nothing else draws, so the page is the same on every machine.
"""

from __future__ import annotations

from typing import Final

from cloister.primitives import modp
from cloister.protocols.code import steps
from cloister.protocols.code.forms import Code, digits, new_secret, pictures
from cloister.protocols.code.items import token_of
from cloister.protocols.code.pairing import room_id
from cloister.protocols.code.steps import ANSWERER, FULL, OPENER, SAS

_ID: Final = "A3F2B1"
_LINE: Final = 128


def _counting(first: int, size: int) -> bytes:
    return bytes((first + i) % 256 for i in range(size))


def _shown(name: str, data: bytes) -> str:
    """A value in hexadecimal, its size, and 64 bytes a line."""
    text = data.hex()
    lines = [text[i : i + _LINE] for i in range(0, len(text), _LINE)]
    return "\n".join([f"{name} ({len(data)} bytes)", *(f"    {line}" for line in lines)])


def example() -> str:
    """Both modes, as a block of the page: the code first."""
    whole = Code(_ID, new_secret(lambda size: _counting(0x9A, size)))
    return "```\n" + "\n\n".join([_agreement(whole, FULL), _agreement(Code(_ID), SAS)]) + "\n```\n"


def _agreement(code: Code, mode: str) -> str:
    rule = steps.Steps()
    g = rule.generator(code.id, code.secret)
    x_c = modp.exponent(lambda size: _counting(0x10, size))
    x_j = modp.exponent(lambda size: _counting(0x80, size))
    mine, theirs, opening = modp.power(g, x_c), modp.power(g, x_j), _counting(0x40, steps.OPENING)
    z = rule.shared(rule.element(theirs), x_c)
    agreed = steps.keys(rule, steps.transcript(code.id, mine, theirs, mode), z, b"")
    messages = (
        ("D1", steps.Committed(rule.commitment(code.id, mine, opening))),
        ("D2", steps.Public(theirs)),
        ("D3", steps.Opened(mine, opening, steps.confirmation(rule, agreed, OPENER))),
        ("D4", steps.Finished(steps.confirmation(rule, agreed, ANSWERER))),
    )
    room, sas = room_id(agreed), steps.sas_of(agreed.confirm)
    shown = [f"code {code}, mode {mode}"]
    if code.secret:
        shown.append(_shown("g", g.to_bytes(modp.SIZE, "big")))
    shown += [_shown(name, steps.encode(message)) for name, message in messages]
    shown += [
        _shown("Z", z),
        _shown("th", agreed.th),
        _shown("k_C, first chain key", agreed.chains[0]),
        _shown("k_J, first chain key", agreed.chains[1]),
        _shown("room", room),
        _shown("access token", token_of(agreed.exporter, room)),
        f"key check {agreed.key_check}",
        f"string    {digits(sas)}   {', '.join(pictures(sas))}",
    ]
    return "\n".join(shown)
