"""Forty ways to smuggle terminal control into a text or a name (catalogue C10, C11)."""

from __future__ import annotations

PAYLOADS: tuple[str, ...] = (
    "\x1b[2J\x1b[H",  # clear the screen
    "\x1b[31mred",
    "\x1b[1A\x1b[2K",  # write over the line above
    "\x1b[?1049h",  # other screen
    "\x1b[6n",  # ask for the cursor's place: the terminal types the answer
    "\x1b[c",
    "\x1b[21t",  # report the title
    "\x1b]0;title\x07",
    "\x1b]2;title\x1b\\",
    "\x1b]8;;http://example.org\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]52;c;aGVsbG8=\x07",  # write the clipboard
    "\x1b]52;c;?\x07",
    "\x1b]4;1;?\x07",
    "\x1b]1337;File=inline=1:AAAA\x07",
    "\x1b]777;notify;a;b\x07",
    "\x1b]0;unterminated",
    "\x1bP+q544e\x1b\\",  # DCS
    "\x1bP$qm\x1b\\",
    "\x1b_Ga=T;AAAA\x1b\\",  # APC: kitty graphics
    "\x1b^privacy\x1b\\",  # PM
    "\x1bXstart of string\x1b\\",  # SOS
    "\x1bc",  # reset
    "\x1b#8",
    "\x1b(0",  # other letters
    "\x1bN\x1bO",
    "\x1b",
    "\x9b31m",  # C1 as one character: CSI
    "\x9d0;title\x9c",
    "\x90+q\x9c",
    "\x9fG\x9c",
    "\x9e\x98\x85",
    "\x7f\x7f\x7f",
    "\x00nul",
    "safe\x08\x08\x08\x08evil",
    "safe\revil",
    "\x0e\x0f\x05\x07",
    "\x0b\x0c\x1c\x1d\x1e\x1f",
    "good\u202efdp.exe",
    "\u2066\u2067\u2068\u202a\u202b\u202d\u202e\u202c\u2069",
    "e" + "\u0301" * 500 + "\u200b" * 500 + "\U000e0041" * 50,
)


def forbidden(text: str) -> list[str]:
    """The characters of `text` that must never reach a screen."""
    return [
        char
        for char in text
        if (char < " " and char not in "\n\t")
        or "\x7f" <= char <= "\x9f"
        or char in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u200b\ufeff"
        or "\ud800" <= char <= "\udfff"
        or "\U000e0000" <= char <= "\U000e007f"
    ]
