"""What people see and type of suite `code`: the session code, and the short authentication string.

Source: docs/spec/classic/code.md, document 004 (`A3F2B1`), fixes F5.1 and F5.2.

    A3F2B1-7Q4K-M9XP     6 hexadecimal digits that the relay gave, and 40 secret bits that it never sees
    A3F2B1               the id alone, as the document has it: then both people compare
    4821 0937 7164       the short authentication string as 12 digits, or as 6 pictures of 64

Invariants
- The secret is Crockford's base 32 in upper case; what people mistake (I, L for 1; O for 0) is read as what was meant.
- One code has one normal form; the generator is made from that.
- Digits and pictures show the same 40 bits (the pictures 36 of them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cloister.errors import UsageError
from cloister.primitives import Rng

ID_SIZE: Final = 6
SECRET_SIZE: Final = 8
SECRET_BYTES: Final = 5
SAS_BYTES: Final = 5
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_HEX: Final = "0123456789ABCDEF"
_MEANT: Final = str.maketrans("OIL", "011", " -")
_GROUP: Final = 4
_PICTURES: Final = 6

PICTURES: Final = (
    "🐶 dog", "🐱 cat", "🦁 lion", "🐴 horse", "🐷 pig", "🐘 elephant", "🐰 rabbit", "🐼 panda",
    "🐓 rooster", "🐧 penguin", "🐢 turtle", "🐟 fish", "🐙 octopus", "🦋 butterfly", "🌷 flower", "🌳 tree",
    "🌵 cactus", "🍄 mushroom", "🌏 globe", "🌙 moon", "☁️ cloud", "🔥 fire", "🍌 banana", "🍎 apple",
    "🍓 strawberry", "🌽 corn", "🍕 pizza", "🎂 cake", "🧀 cheese", "🥚 egg", "🍋 lemon", "🥕 carrot",
    "🤖 robot", "🎩 hat", "👓 glasses", "🔧 spanner", "🧤 gloves", "👍 thumb", "☂️ umbrella", "⌛ hourglass",
    "⏰ clock", "🎁 gift", "💡 lamp", "📕 book", "✏️ pencil", "📎 clip", "✂️ scissors", "🔒 lock",
    "🔑 key", "🔨 hammer", "☎️ telephone", "🏁 flag", "🚂 train", "🚲 bicycle", "✈️ aeroplane", "🚀 rocket",
    "🏆 trophy", "⚽ ball", "🎸 guitar", "🎺 trumpet", "🔔 bell", "⚓ anchor", "🎧 headphones", "📁 folder",
)  # fmt: skip
"""64 pictures with their names, which are said where pictures cannot be shown."""


@dataclass(frozen=True, slots=True)
class Code:
    """A session code: the id that the relay knows, and the secret (empty: people compare instead)."""

    id: str
    secret: str = ""

    @classmethod
    def parse(cls, text: str) -> Code:
        """What a person typed; UsageError for anything that is no code."""
        plain = text.upper().translate(_MEANT)
        sid, secret = plain[:ID_SIZE], plain[ID_SIZE:]
        if len(sid) != ID_SIZE or len(secret) not in (0, SECRET_SIZE):
            raise UsageError("usage", "a code is like A3F2B1-7Q4K-M9XP, or A3F2B1 alone")
        if not set(sid) <= set(_HEX) or not set(secret) <= set(_CROCKFORD):
            raise UsageError("usage", "a code is like A3F2B1-7Q4K-M9XP, or A3F2B1 alone")
        return cls(sid, secret)

    def __str__(self) -> str:
        """The form that is shown and typed."""
        groups = [self.secret[at : at + _GROUP] for at in range(0, len(self.secret), _GROUP)]
        return "-".join([self.id, *groups])


def new_secret(rng: Rng) -> str:
    """40 random bits as 8 characters."""
    number = int.from_bytes(rng(SECRET_BYTES), "big")
    return "".join(_CROCKFORD[number >> 5 * at & 31] for at in reversed(range(SECRET_SIZE)))


def digits(sas: bytes) -> str:
    """The 40 bits as 12 digits in three groups."""
    shown = f"{int.from_bytes(sas, 'big') % 10**12:012d}"
    return " ".join(shown[at : at + _GROUP] for at in range(0, len(shown), _GROUP))


def pictures(sas: bytes) -> tuple[str, ...]:
    """The first 36 of the 40 bits as 6 pictures, each with its name."""
    number = int.from_bytes(sas, "big") >> 4
    return tuple(PICTURES[number >> 6 * at & 63] for at in reversed(range(_PICTURES)))
