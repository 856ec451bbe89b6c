"""What may reach a screen: `safe_text` for what a peer wrote, `safe_name` for names in a line of ours.

Source: docs/architecture.md ("Content"), Unicode 14 categories, UAX #9 (bidirectional text). Terminals, Textual and
Rich pass escape sequences on; therefore everything that a peer wrote goes through here before any sink: texts, names,
room titles, error details, on the command line, in logs and notifications.

Invariants
- The result has no C0 control but newline and tab, no DEL, no C1 control, no surrogate, no private-use character, no
  bidirectional embedding, override or isolate (`safe_name` adds one isolate around the whole), no line separator but
  newline, no invisible tag or filler.
- At most MAX_MARKS combining marks and MAX_ZERO_WIDTH joiners or direction marks follow one visible character; none
  begins a line, so that a text cannot draw on what stands before it.
- What is taken out leaves a visible trace (a control picture, U+FFFD or a dotted circle), but for what was invisible.
- `safe_text(safe_text(x)) == safe_text(x)`; ordinary text of every script and emoji sequences come out unchanged.

Left out: telling look-alike letters apart (a matter of the roster, not of a screen) and how wide a text is.
"""

from __future__ import annotations

import unicodedata
from typing import Final

MAX_MARKS: Final = 8
"""Combining marks after one character; written languages need no more."""
MAX_ZERO_WIDTH: Final = 2
"""Joiners and direction marks after one character."""
MAX_NAME: Final = 64
"""Characters of a name that are shown; a longer one ends in an ellipsis."""

REPLACEMENT: Final = "\ufffd"
_DOTTED_CIRCLE: Final = "\u25cc"
_ISOLATE: Final = "\u2068"
_END_ISOLATE: Final = "\u2069"
_KEPT_FORMAT: Final = frozenset("\u200c\u200d\u200e\u200f")
"""Format characters that scripts and emoji need: ZWNJ, ZWJ, LRM, RLM."""
_VISIBLE_FORMAT: Final = frozenset(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
)
"""Number and verse signs of Arabic, Syriac and Kaithi: format characters in name only."""
_FILLERS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2065\u2800\u3164\uffa0")
"""Blank or ignorable, but of a category that looks visible."""
_LAST_ASCII: Final = 0x7F


def safe_text(text: str) -> str:
    """`text` as it may be shown; lines are kept apart by newline alone."""
    shown = _Shown()
    for char in text.replace("\r\n", "\n"):
        shown.take(char)
    return "".join(shown.out)


def safe_name(name: str) -> str:
    """`name` as it may stand inside a line of ours: one line, at most MAX_NAME characters, isolated unless ASCII."""
    line = " ".join(safe_text(name).split())
    line = "".join(char for char in line if char not in _KEPT_FORMAT) or REPLACEMENT
    if len(line) > MAX_NAME:
        line = line[: MAX_NAME - 1] + "…"
    return line if line.isascii() else f"{_ISOLATE}{line}{_END_ISOLATE}"


class _Shown:
    """What is shown so far, and what has been piled up on its last visible character."""

    __slots__ = ("bare", "marks", "out", "zero_width")

    def __init__(self) -> None:
        self.out: list[str] = []
        self.bare = True
        """Nothing stands on this line yet that a mark could sit on."""
        self.marks = 0
        self.zero_width = 0

    def take(self, char: str) -> None:
        """Add one character, or what stands for it."""
        if " " <= char < "\x7f":
            self._base(char)
        elif char in _KEPT_FORMAT:
            self.zero_width += 1
            if self.zero_width <= MAX_ZERO_WIDTH:
                self.out.append(char)
        elif not _ignorable(char):
            category = unicodedata.category(char)
            if category in ("Mn", "Me"):
                self._mark(char)
            else:
                self._base(_visible(char, category))

    def _base(self, char: str) -> None:
        self.out.append(char)
        self.bare = char in "\n\t"
        self.marks = self.zero_width = 0

    def _mark(self, char: str) -> None:
        if self.bare:
            self._base(_DOTTED_CIRCLE)
        self.marks += 1
        if self.marks <= MAX_MARKS:
            self.out.append(char)
        elif self.marks == MAX_MARKS + 1:
            self.out.append(REPLACEMENT)


def _ignorable(char: str) -> bool:
    """Invisible by design, and needed by no script: left out without a trace."""
    if 0xE0000 <= ord(char) <= 0xE0FFF:
        return unicodedata.category(char) != "Mn"
    return char in _FILLERS or (unicodedata.category(char) == "Cf" and char not in _VISIBLE_FORMAT)


def _visible(char: str, category: str) -> str:
    """The character itself, or what is shown for one that must not reach a screen."""
    if char in "\n\t":
        return char
    if char == "\r" or category in ("Zl", "Zp"):
        return "\n"
    if char < " ":
        return chr(0x2400 + ord(char))
    if ord(char) == _LAST_ASCII:
        return "\u2421"
    if category in ("Cc", "Cs", "Co") or ord(char) & 0xFFFE == 0xFFFE:
        return REPLACEMENT
    return char
