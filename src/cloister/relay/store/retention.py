"""How long the relay keeps what: by age only, because nobody but the members knows who has read.

Source: docs/spec/relay.md ("Retention"). Payloads of messages live 30 days, those of commits and of handshakes
180; hashes stay, so that no chain ever breaks. The realm log stays whole. A run's log goes as a whole, as late
as the commits do: the relay cannot know which run was committed. Mail lives 30 days, and so does a commit's group
info, which the invitations of its epoch need. Delivered mail leaves a row without body for a day, so that a sender
who lost the answer can repeat the request.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cloister.relay.store.interface import MailRow
from cloister.wire import limits

MESSAGE: Final = "application"
"""The kind of entry whose payload goes first."""


class Times(NamedTuple):
    """What is older than these (ms) goes."""

    messages: int
    commits: int
    runs: int
    mail: int
    delivered: int
    enrolments: int

    @classmethod
    def at(cls, now: int) -> Times:
        """The times at `now`."""
        return cls(
            messages=now - limits.MESSAGE_LIFE.value,
            commits=now - limits.COMMIT_LIFE.value,
            runs=now - limits.COMMIT_LIFE.value,
            mail=now - limits.MAILBOX_LIFE.value,
            delivered=now - limits.DAY,
            enrolments=now - limits.ENROLMENT_LIFE.value,
        )

    def over(self, kind: str, ts_ms: int) -> bool:
        """Whether the payload of an entry of a room or run is past its time."""
        return ts_ms < (self.messages if kind == MESSAGE else self.commits)

    def mail_over(self, row: MailRow) -> bool:
        """Whether a mailbox row is past its time."""
        return row.ts_ms < (self.delivered if row.body is None else self.mail)
