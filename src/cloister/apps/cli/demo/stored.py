"""What the relay stored, read from its database: how much, of which kind, and how the first bytes look.

Source: docs/demo.md ("What the relay stored"). Read as an operator could read it, with SQLite alone.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.apps.cli.demo.scan import REALM_LOG, read_only

SHOWN: Final = 16
"""Bytes of a row that are shown."""


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
        query = (
            "SELECT l.log, e.kind, e.payload FROM entries e JOIN logs l ON l.no = e.id >> 40 "
            "WHERE e.payload IS NOT NULL ORDER BY e.ts_ms, e.id"
        )
        count = 0
        for log, kind, payload in connection.execute(query):
            count += 1
            name = _name(log, runs)
            entries, size = logs.get(name, (0, 0))
            logs[name] = (entries + 1, size + len(payload))
            if log != REALM_LOG:
                rows.append(Row(log=name, kind=kind, size=len(payload), first=payload[:SHOWN].hex()))
    files = [path for path in database.parent.glob(f"{database.name}*") if path.is_file()]
    return Stored(entries=count, bytes=sum(path.stat().st_size for path in files), logs=logs, rows=tuple(rows))


def _name(log: bytes, runs: set[bytes]) -> str:
    if log == REALM_LOG:
        return "realm log"
    return f"{'run' if log in runs else 'room'} {log.hex()[:8]}"
