"""The report of a demo: what each member sent and decrypted, what they share, what the relay stored.

Source: docs/demo.md. A report proves itself: `failures` names everything that is not as it must be, and a demo with
failures ends with an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cloister.apps.cli.demo.scan import Find
from cloister.apps.cli.demo.stored import Stored
from cloister.client.text import safe_name, safe_text

TRANSPORT: Final = "WebSocket, TLS 1.3"
_ROWS: Final = 12
"""Rows of the relay's database that are shown to people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one member told at the end. `received` are (sender, text) in the order shown, own ones left out."""

    name: str
    pid: int
    sent: tuple[str, ...]
    received: tuple[tuple[str, str], ...]
    order: tuple[str, ...]
    """Ids of all messages, own ones too, in the order shown."""
    key_check: str
    epoch: int
    entries: int
    head: str
    alarms: tuple[str, ...] = ()
    confirmed: tuple[str, ...] = ()
    """Who has confirmed the key to this member; empty in suites where nobody does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole demo."""

    suite: str
    title: str
    members: tuple[Told, ...]
    relay_pid: int
    stored: Stored
    found: tuple[Find, ...]
    searched: int
    """How many secrets and texts were looked for."""
    phases: Mapping[str, float]
    """Seconds of each phase, in order."""
    milestones: tuple[str, ...] = ()
    """What the demo has shown that belongs to its suite, in words."""

    @property
    def heads_equal(self) -> bool:
        """Whether all members verified the same head of the room's log."""
        return len({(told.entries, told.head) for told in self.members}) == 1

    def failures(self) -> list[tuple[str, str]]:
        """(code of the registry, sentence) of everything that is wrong; empty for a demo that is as it must be."""
        wrong: list[tuple[str, str]] = []
        for told in self.members:
            wrong += [(code, f"{told.name} caught the relay or a member") for code in told.alarms]
            for other in self.members:
                if other is not told:
                    wrong += _undelivered(told, other)
        if len({told.key_check for told in self.members}) != 1 or not all(told.key_check for told in self.members):
            wrong.append(("confirm_mismatch", "the members do not show one check value"))
        if not self.heads_equal:
            wrong.append(("fork", "the members verified different heads"))
        if len({told.order for told in self.members}) != 1:
            wrong.append(("fork", "the members saw the messages in different orders"))
        wrong += [("leak", str(find)) for find in self.found]
        return wrong

    def record(self) -> dict[str, Any]:
        """The one object of --json, without `v` and `type`."""
        return {
            "ok": not self.failures(),
            "suite": self.suite,
            "transport": TRANSPORT,
            "seconds": round(self.seconds, 2),
            "phases": {name: round(seconds, 2) for name, seconds in self.phases.items()},
            "members": [
                {
                    "name": told.name,
                    "pid": told.pid,
                    "sent": len(told.sent),
                    "received": len(told.received),
                    "key_check": told.key_check,
                }
                for told in self.members
            ],
            "room": {
                "epoch": self.members[0].epoch,
                "entries": self.members[0].entries,
                "head": self.members[0].head,
                "heads_equal": self.heads_equal,
            },
            "relay": {"pid": self.relay_pid, "entries": self.stored.entries, "bytes": self.stored.bytes},
            "milestones": list(self.milestones),
            "searched": self.searched,
            "plaintext_found": [str(find) for find in self.found],
            "failures": [f"{code}: {sentence}" for code, sentence in self.failures()],
        }

    def lines(self) -> list[str]:
        """The report for people."""
        parts = [self._messages(), [*self._agreement(), *self._of_suite()], self._relay(), self._search(), self._time()]
        return [line for part in parts for line in [*part, ""]][:-1]

    @property
    def seconds(self) -> float:
        """From the first process to the end of the search."""
        return sum(self.phases.values())

    def _time(self) -> list[str]:
        """Where the time went; what a member needs most is to make two RSA key pairs, in `enrol`."""
        spent = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.phases.items())
        return [f"Where the time went ({self.seconds:.1f} s)", f"  {spent}"]

    def _messages(self) -> list[str]:
        lines = ["Who sent, and who decrypted it"]
        for told in self.members:
            for text in told.sent:
                readers = [
                    safe_name(other.name)
                    for other in self.members
                    if other is not told and (told.name, text) in other.received
                ]
                lines.append(f"  {safe_name(told.name):<8} {safe_text(text)!r}")
                lines.append(f"  {'':<8} read by {', '.join(readers) or 'nobody'}")
        return lines

    def _agreement(self) -> list[str]:
        epoch = self.members[0].epoch
        same = "the same check value and the same head" if not self._differ() else "NOT THE SAME"
        return [
            f"What the members share (suite {self.suite}, epoch {epoch}, {TRANSPORT})",
            *(
                f"  {safe_name(told.name):<8} process {told.pid:<8} check value {told.key_check}   "
                f"head {told.head[:16]} of {told.entries} entries, verified"
                for told in self.members
            ),
            f"  -> {same}",
        ]

    def _of_suite(self) -> list[str]:
        return [f"  {safe_text(text)}" for text in self.milestones]

    def _differ(self) -> bool:
        return not self.heads_equal or len({told.key_check for told in self.members}) != 1

    def _relay(self) -> list[str]:
        stored = self.stored
        lines = [f"What the relay stored (process {self.relay_pid}: {stored.entries} entries, {stored.bytes} bytes)"]
        lines += [f"  {name:<14} {count:>3} entries {size:>8} bytes" for name, (count, size) in stored.logs.items()]
        shown = _spread(stored.rows, _ROWS)
        lines += [f"  {row.log:<14} {row.kind:<12} {row.size:>6} bytes  {_spaced(row.first)} ..." for row in shown]
        if len(shown) < len(stored.rows):
            lines.append(f"  ... and {len(stored.rows) - len(shown)} more rows that look the same")
        return lines

    def _search(self) -> list[str]:
        lines = [
            "What was searched for in the relay's database, write-ahead log and process log",
            f"  {self.searched} texts, titles and keys, raw, hexadecimal and base64; names outside the directory",
        ]
        found = [f"  FOUND {find}" for find in self.found]
        return [*lines, *(found or ["  -> none of them is there"])]


def _undelivered(told: Told, other: Told) -> list[tuple[str, str]]:
    """What `told` sent and `other` did not show."""
    shown = set(other.received)
    return [
        ("withheld", f"{other.name} did not receive a message of {told.name}")
        for text in told.sent
        if (told.name, text) not in shown
    ]


def _spread(rows: Sequence[Any], most: int) -> list[Any]:
    """The last rows: the newest, which are the messages."""
    return list(rows[-most:])


def _spaced(digits: str) -> str:
    return " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))
