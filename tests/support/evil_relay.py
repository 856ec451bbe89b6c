"""A relay that cheats, as a program: `python evil_relay.py MODE TEXT relay run --folder DIR`.

flip    flips one bit in every message that it pushes
tell    writes TEXT to its log (a relay that had come to know a message, and kept it)
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from cloister.apps.cli.main import main
from cloister.relay.core import fanout
from cloister.wire import frames

KIND = "application"
_honest = fanout.encode


def flip(frame: Any) -> bytes:
    """The frame with a bit of each message turned over."""
    if isinstance(frame, frames.Pushed):
        entries = [
            msgspec.structs.replace(entry, payload=bytes([entry.payload[0] ^ 1]) + entry.payload[1:])
            if isinstance(entry, frames.Entry) and entry.kind == KIND
            else entry
            for entry in frame.entries
        ]
        frame = msgspec.structs.replace(frame, entries=entries)
    return _honest(frame)


if __name__ == "__main__":
    mode, text, *command = sys.argv[1:]
    if mode == "flip":
        fanout.encode = flip
    elif mode == "tell":
        sys.stderr.write(f"somebody said: {text}\n")
    sys.argv = ["cloister", *command]
    sys.exit(main())
