"""Looks for what must not be there: message texts, titles and keys in everything that a relay stored.

Source: docs/demo.md ("What is searched"). The relay's folder is read as bytes, file by file (database, write-ahead
log, process log); its database also row by row, because names may stand where the relay needs them to deliver (the
realm log, mailboxes, prekeys, invites) and nowhere else.

Invariants
- A needle is looked for raw, in hexadecimal and in base64 (standard and URL form, at each of the three places that a
  value can take in a longer encoded text); UTF-16 too for texts.
- A needle shorter than NEEDLE_LEAST bytes would be found by chance and is refused.
- What cannot be read fails the scan; nothing is skipped.
"""

from __future__ import annotations

import sqlite3
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

NEEDLE_LEAST: Final = 5
"""Bytes of the shortest needle: anything shorter stands in a database by chance."""
REALM_LOG: Final = bytes(16)
HOME_OF_NAMES: Final = ("mailboxes", "mail", "mail_keys", "prekeys", "invites", "enrolments", "parts", "meta")
"""Tables in which the relay may know devices and users: whom to deliver to, whose keys to give out, whom to let in."""
_SEQ_BITS: Final = 40
"""The id of a block of entries is (number of its log << 40) | seq of the first."""
_OVERLAP: Final = 4096
_CHUNK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Needle:
    """Something that must not be found. `name` says what it is, without giving it away."""

    name: str
    value: bytes
    is_text: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """A needle that was found: in which form and where (a file, or `table.column` of a database)."""

    name: str
    form: str
    place: str

    def __str__(self) -> str:
        """For the report."""
        return f"{self.name} ({self.form}) in {self.place}"


def forms(needle: Needle) -> Iterator[tuple[str, bytes]]:
    """(form, bytes) of every way in which the needle could stand in a file."""
    value = needle.value
    if len(value) < NEEDLE_LEAST:
        raise ValueError(f"{needle.name} is too short to look for")
    yield "raw", value
    yield "hex", value.hex().encode()
    yield "hex", value.hex().upper().encode()
    for shift in range(3):
        inner = _base64_core(value, shift)
        yield "base64", inner
        yield "base64", inner.translate(bytes.maketrans(b"+/", b"-_"))
    if needle.is_text:
        yield "UTF-16", value.decode().encode("utf-16-le")


def _base64_core(value: bytes, shift: int) -> bytes:
    """The characters that depend on the value alone when it begins `shift` bytes after a multiple of three."""
    encoded = b64encode(bytes(shift) + value)
    first = (shift * 8 + 5) // 6
    last = (shift + len(value)) * 8 // 6
    return encoded[first:last]


class Scanner:
    """Needles in all their forms, ready to be looked for many times: all in one pass, by first bytes that all have."""

    def __init__(self, needles: Iterable[Needle]) -> None:
        self._forms: dict[bytes, set[tuple[str, str, bytes]]] = {}
        for needle in needles:
            for form, value in forms(needle):
                self._forms.setdefault(value[:NEEDLE_LEAST], set()).add((form, needle.name, value))

    def in_bytes(self, data: bytes, place: str) -> list[Find]:
        """What stands in these bytes."""
        found: set[tuple[str, str]] = set()
        known = self._forms
        for at in range(len(data) - NEEDLE_LEAST + 1):
            first = data[at : at + NEEDLE_LEAST]
            if first in known:
                found |= {(form, name) for form, name, value in known[first] if data.startswith(value, at)}
        return [Find(name=name, form=form, place=place) for form, name in sorted(found)]

    def in_file(self, path: Path, place: str) -> list[Find]:
        """What stands in this file; read in chunks that overlap by more than any form is long."""
        found: dict[Find, None] = {}
        tail = b""
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                found.update(dict.fromkeys(self.in_bytes(tail + chunk, place)))
                tail = chunk[-_OVERLAP:]
        return list(found)

    def in_folder(self, folder: Path) -> list[Find]:
        """What stands in any file below this folder."""
        return [
            find
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink()
            for find in self.in_file(path, path.relative_to(folder).as_posix())
        ]


def names_outside_directory(database: Path, names: Sequence[str]) -> list[Find]:
    """Where a user's name stands in a row that is none of the relay's directory: in a room's or run's log, an epoch.

    A name is looked for as part of a device id, and by itself when it is too long to stand in ciphertext by chance.
    """
    looked_for = [(name, f"/u/{name}".encode()) for name in names]
    looked_for += [(name, name.encode()) for name in names if len(name.encode()) >= NEEDLE_LEAST]
    found: dict[Find, None] = {}
    for place, row in _rows(database):
        for name, value in looked_for:
            if any(value in cell for cell in row):
                found[Find(name=f"the name {name}", form="raw", place=place)] = None
    return list(found)


def names_in_log(log: Path, names: Sequence[str]) -> list[Find]:
    """Which names stand in a log of text."""
    text = log.read_bytes()
    return [Find(name=f"the name {name}", form="raw", place=log.name) for name in names if name.encode() in text]


def _rows(database: Path) -> Iterator[tuple[str, list[bytes]]]:
    """Every row that must know no name, as (table, values as bytes)."""
    with closing(read_only(database)) as connection:
        (directory,) = connection.execute("SELECT no FROM logs WHERE log = ?", (REALM_LOG,)).fetchone() or (None,)
        for table in tables(connection):
            if table in HOME_OF_NAMES:
                continue
            for row in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608 - a name from the schema
                if table != "blocks" or row[0] >> _SEQ_BITS != directory:
                    yield table, [_as_bytes(value) for value in row]


def tables(connection: sqlite3.Connection) -> list[str]:
    """The tables of a database."""
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    return [name for (name,) in rows if not name.startswith("sqlite_")]


def read_only(database: Path) -> sqlite3.Connection:
    """A connection that cannot write."""
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True)


def _as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
