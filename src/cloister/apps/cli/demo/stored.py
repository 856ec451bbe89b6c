"""What the relay stored, read from its database: how much, of which kind, and how the first bytes look.

Source: docs/demo.md ("What the relay stored"). Read as an operator could read it: SQLite, and MessagePack
for the blocks of entries (docs/spec/relay.md, "Tables").
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from cloister.apps.cli.demo.scan import REALM_LOG, read_only

SHOWN: Final = 16
"""Bytes of a row that are shown."""
_KIND: Final = 2
_PAYLOAD: Final = 7
_TS: Final = 13
"""Places in the array of an entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A stored entry or mailbox item: `first` are its first bytes in hexadecimal."""

    log: str
    kind: str
    size: int
    first: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Everything that the report shows. `bytes` are those of all files together."""

    entries: int
    bytes: int
    logs: dict[str, tuple[int, int]]
    """Name of a log -> (entries, bytes of payload)."""
    rows: tuple[Row, ...]
    """The entries of rooms and runs, and what waits in mailboxes."""


def stored(database: Path) -> Stored:
    """What stands in the relay's database now."""
    with closing(read_only(database)) as connection:
        runs = {log for (log,) in connection.execute("SELECT run FROM runs")}
        logs: dict[str, tuple[int, int]] = {}
        rows: list[Row] = []
        entries: list[tuple[int, int, bytes, str, bytes]] = []
        for place, log, data in connection.execute(
            "SELECT b.id, l.log, b.data FROM blocks b JOIN logs l ON l.no = b.id >> 40"
        ):
            for number, entry in enumerate(msgspec.msgpack.decode(data)):
                if entry[_PAYLOAD] is not None:
                    entries.append((entry[_TS], place + number, log, entry[_KIND], entry[_PAYLOAD]))
        for _, _, log, kind, payload in sorted(entries):
            name = _name(log, runs)
            count, size = logs.get(name, (0, 0))
            logs[name] = (count + 1, size + len(payload))
            if log != REALM_LOG:
                rows.append(Row(log=name, kind=kind, size=len(payload), first=payload[:SHOWN].hex()))
    files = [path for path in database.parent.glob(f"{database.name}*") if path.is_file()]
    return Stored(entries=len(entries), bytes=sum(path.stat().st_size for path in files), logs=logs, rows=tuple(rows))


def _name(log: bytes, runs: set[bytes]) -> str:
    if log == REALM_LOG:
        return "realm log"
    return f"{'run' if log in runs else 'room'} {log.hex()[:8]}"
