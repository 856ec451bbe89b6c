"""One suite for every store: what is applied is there, whole and in order; what failed is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloister.relay.store.interface import (
    AckMail,
    Counts,
    DropLog,
    DropMailbox,
    DropStaged,
    EntryRow,
    EpochRow,
    InviteRow,
    Mailbox,
    MailRow,
    Purge,
    PutEnrolment,
    PutEntries,
    PutEpoch,
    PutGroupInfo,
    PutInvite,
    PutMail,
    PutMailKey,
    PutMeta,
    PutPart,
    PutRun,
    RunRow,
    StagedRow,
    Store,
    StoreFailed,
    Write,
)
from cloister.relay.store.memory import MemoryStore
from cloister.relay.store.sqlite import SqliteStore
from cloister.wire import limits
from cloister.wire.frames import REALM_LOG

NOW = 1_790_000_000_000
LOG, OTHER, RUN = b"L" * 16, b"O" * 16, b"U" * 16
H = b"h" * 32


@pytest.fixture(params=["memory", "sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Gives the store as a process finds it that starts now."""
    opened: list[Store] = [MemoryStore()]

    def again() -> Store:
        if request.param == "sqlite":
            opened.pop().close()
            opened.append(SqliteStore(tmp_path / "relay.db", "OFF"))
        return opened[0]

    yield again
    opened[0].close()


@pytest.fixture
def store(reopen: Callable[[], Store]) -> Store:
    return reopen()


def entry(
    seq: int, log: bytes = LOG, kind: str = "application", ts_ms: int = NOW, number: int | None = None
) -> EntryRow:
    ident = (number or seq).to_bytes(16, "big")
    return EntryRow(
        log, seq, kind, 0, 1, H, ident, b"payload %d" % seq, H, H, None, H if kind == "commit" else None, b"", ts_ms,
        seq.to_bytes(32, "big"),
    )  # fmt: skip


def put(store: Store, *writes: Write) -> None:
    store.apply(writes)
    store.refresh()


# --- refused and failed -------------------------------------------------------------------------------------


def test_a_failed_batch_leaves_nothing(store: Store) -> None:
    put(store, PutEntries([entry(1)]))
    bad = [PutMeta("key", b"value"), PutEntries([entry(1)])]
    with pytest.raises(StoreFailed):
        store.apply(bad)
    store.refresh()
    assert [row.seq for row in store.entries(LOG, 0, 9)] == [1]
    if isinstance(store, SqliteStore):
        assert store.meta("key") is None


def test_the_memory_store_fails_as_asked() -> None:
    store = MemoryStore()
    store.fail()
    with pytest.raises(StoreFailed):
        store.apply([PutMeta("key", b"value")])
    assert store.meta("key") is None
    store.apply([PutMeta("key", b"value")])
    assert store.meta("key") == b"value"


def test_a_snapshot_goes_its_own_way() -> None:
    store = MemoryStore()
    store.apply([PutEntries([entry(1)])])
    copy = store.snapshot()
    store.apply([PutEntries([entry(2)])])
    copy.apply([PutMeta("key", b"value")])
    assert copy.last(LOG) == entry(1)
    assert store.meta("key") is None


# --- what is there ------------------------------------------------------------------------------------------


def test_an_empty_store_has_nothing(store: Store) -> None:
    assert store.meta("key") is None
    assert store.last(LOG) is None
    assert store.entry(LOG, b"e" * 16) is None
    assert list(store.entries(LOG, 0, 99)) == []
    assert store.epoch(LOG, H) is None
    assert store.run(RUN) is None
    assert store.runs_of(LOG) == []
    assert store.mailbox("ann") == Mailbox(0, 0, 0)
    assert store.mail("ann", 0, 9) == []
    assert store.mail_item("ann", b"i" * 16) is None
    assert store.mail_key("ann") is None
    assert store.invite(b"i" * 16) is None
    assert store.invites_of("ann", NOW) == 0
    assert store.enrolment(b"i" * 16, H) is None
    assert store.staged("ann") == []
    assert store.parts("ann", H) == b""
    assert store.counts() == Counts(0, 0, 0, 0)


def test_everything_is_there_after_a_restart(store: Store, reopen: Callable[[], Store]) -> None:
    rows = [entry(1, kind="create"), entry(2), entry(3, kind="commit")._replace(next_token_hash=H, item_hashes=H + H)]
    epoch, run = EpochRow(LOG, H, 1, 1, 3, None), RunRow(RUN, LOG, H, NOW, H)
    mail, invite = MailRow("ann", 1, b"i" * 16, b"body", H, NOW), InviteRow(b"v" * 16, H, 3, NOW, "ann")
    put(
        store,
        PutEntries(rows),
        PutEntries([entry(1, OTHER, number=77)]),
        PutEpoch(epoch._replace(end=0)),
        PutEpoch(epoch),
        PutRun(run),
        PutGroupInfo(LOG, 3, NOW, b"info"),
        PutGroupInfo(LOG, 4, NOW, b"newer"),
        PutMail(mail),
        PutMailKey("ann", b"statement"),
        PutInvite(invite),
        PutEnrolment(b"v" * 16, H, b"reply", NOW),
        PutPart("ann", H, 10, 0, b"12345", NOW),
        PutPart("ann", H, 10, 5, b"678", NOW),
        PutMeta("key", b"old"),
        PutMeta("key", b"value"),
    )
    store = reopen()
    assert list(store.entries(LOG, 0, 99)) == rows
    assert list(store.entries(LOG, 1, 2)) == [rows[1]]
    assert list(store.entries(LOG, 0, 2**62)) == rows
    assert list(store.entries(LOG, 2**62, 2**62)) == []
    assert store.last(LOG) == rows[2]
    assert store.entry(LOG, rows[1].entry_id) == rows[1]
    assert store.entry(OTHER, rows[1].entry_id) is None
    assert store.entry(LOG, (77).to_bytes(16, "big")) is None
    assert store.epoch(LOG, H) == epoch
    assert store.epoch(OTHER, H) is None
    assert store.run(RUN) == run
    assert store.runs_of(LOG) == [run]
    assert store.mailbox("ann") == Mailbox(1, 1, 4)
    assert store.mail_item("ann", b"i" * 16) == mail
    assert store.mail_key("ann") == b"statement"
    assert store.invite(b"v" * 16) == invite
    assert store.enrolment(b"v" * 16, H) == b"reply"
    assert store.staged("ann") == [StagedRow(H, 10, 8, NOW)]
    assert store.parts("ann", H) == b"12345678"
    assert store.meta("key") == b"value"
    assert store.counts() == Counts(2, 4, 36, 1)
    assert store.group_info(LOG, 3, 0, 99) == (4, b"info")
    assert store.group_info(LOG, 4, 1, 3) == (5, b"ewe")
    assert store.group_info(LOG, 4, 5, 3) == (5, b"")
    assert (store.group_info(LOG, 5, 0, 9), store.group_info(OTHER, 3, 0, 9)) == (None, None)


def test_mail_is_read_in_order_and_emptied_up_to_a_number(store: Store) -> None:
    for number in range(1, 6):
        put(store, PutMail(MailRow("ann", number, number.to_bytes(16, "big"), b"body", H, NOW)))
    put(store, PutMail(MailRow("bob", 1, bytes(16), b"other", H, NOW)))
    assert [row.number for row in store.mail("ann", 2, 2)] == [3, 4]
    put(store, AckMail("ann", 3, NOW + 5))
    assert [row.number for row in store.mail("ann", 0, 9)] == [4, 5]
    assert store.mailbox("ann") == Mailbox(5, 2, 8)
    kept = store.mail_item("ann", (2).to_bytes(16, "big"))
    assert kept == MailRow("ann", 2, (2).to_bytes(16, "big"), None, H, NOW + 5)
    put(store, AckMail("ann", 3, NOW + 99))
    assert store.mail_item("ann", (2).to_bytes(16, "big")) == kept
    assert store.mailbox("bob") == Mailbox(1, 1, 5)


def test_a_dropped_mailbox_keeps_its_numbers(store: Store) -> None:
    put(store, PutMail(MailRow("ann", 1, b"i" * 16, b"body", H, NOW)), PutMailKey("ann", b"statement"))
    put(store, DropMailbox("ann"))
    assert store.mailbox("ann") == Mailbox(1, 0, 0)
    assert store.mail_key("ann") is None
    assert store.mail_item("ann", b"i" * 16) is None


def test_an_invite_without_uses_is_gone(store: Store) -> None:
    row = InviteRow(b"v" * 16, H, 2, NOW, "ann")
    put(store, PutInvite(row), PutInvite(row._replace(invite=b"w" * 16)))
    put(store, PutInvite(row._replace(uses=1)))
    assert store.invite(b"v" * 16) == row._replace(uses=1)
    assert (store.invites_of("ann", NOW), store.invites_of("ann", NOW + 1), store.invites_of("bob", NOW)) == (2, 0, 0)
    put(store, PutInvite(row._replace(uses=0)))
    assert store.invite(b"v" * 16) is None
    put(store, PutInvite(row._replace(uses=0)))
    assert store.invites_of("ann", NOW) == 1


def test_dropped_parts_are_gone(store: Store) -> None:
    put(store, PutPart("ann", H, 10, 0, b"1", NOW), PutPart("ann", b"g" * 32, 10, 0, b"2", NOW))
    put(store, DropStaged("ann", H))
    assert [row.hash for row in store.staged("ann")] == [b"g" * 32]


# --- retention ----------------------------------------------------------------------------------------------


def test_payloads_of_messages_go_after_thirty_days_and_of_commits_after_180(store: Store) -> None:
    rows = [entry(1, kind="create"), entry(2), entry(3, kind="commit"), entry(4, kind="handshake")]
    put(store, PutEntries(rows), PutEntries([entry(1, REALM_LOG, "realm", number=9)]))
    for age, left in (
        (limits.MESSAGE_LIFE.value, [1, 2, 3, 4]),
        (limits.MESSAGE_LIFE.value + 1, [1, 3, 4]),
        (limits.COMMIT_LIFE.value, [1, 3, 4]),
        (limits.COMMIT_LIFE.value + 1, []),
    ):
        put(store, Purge(NOW + age))
        assert [row.seq for row in store.entries(LOG, 0, 9) if row.payload is not None] == left
    assert [row._replace(payload=None) for row in rows] == list(store.entries(LOG, 0, 9))
    assert store.entry(LOG, rows[1].entry_id) == rows[1]._replace(payload=None)
    assert [row.payload for row in store.entries(REALM_LOG, 0, 9)] == [b"payload 1"]


def test_a_runs_log_goes_as_a_whole(store: Store) -> None:
    run, empty = RunRow(RUN, LOG, H, NOW, H), RunRow(OTHER, None, None, NOW, H)
    put(store, PutRun(run), PutRun(empty), PutEpoch(EpochRow(RUN, H, 0, 0, 0, None)), PutEntries([entry(1, RUN)]))
    put(store, PutEntries([entry(1, number=5)]))
    put(store, Purge(NOW + limits.COMMIT_LIFE.value))
    assert store.run(RUN) == run
    put(store, Purge(NOW + limits.COMMIT_LIFE.value + 1))
    assert (store.run(RUN), store.run(OTHER), store.last(RUN), store.epoch(RUN, H)) == (None, None, None, None)
    assert store.entry(RUN, entry(1).entry_id) is None
    assert store.last(LOG) is not None
    put(store, PutEntries([entry(1, RUN)]))
    assert store.last(RUN) == entry(1, RUN)


def test_a_dropped_log_goes_as_a_whole_and_another_stays(store: Store) -> None:
    put(store, PutEntries([entry(1)]), PutEpoch(EpochRow(LOG, H, 1, 1, 0, None)), PutEntries([entry(1, log=OTHER)]))
    put(store, DropLog(LOG))
    assert (store.last(LOG), store.entry(LOG, entry(1).entry_id), store.epoch(LOG, H)) == (None, None, None)
    assert store.last(OTHER) == entry(1, log=OTHER)
    put(store, PutEntries([entry(1)]))
    assert store.last(LOG) == entry(1)


def test_mail_goes_after_thirty_days_and_what_was_delivered_after_one(store: Store) -> None:
    for number in (1, 2):
        put(store, PutMail(MailRow("ann", number, number.to_bytes(16, "big"), b"body", H, NOW)))
    put(store, AckMail("ann", 1, NOW))
    put(store, Purge(NOW + limits.DAY))
    assert store.mail_item("ann", (1).to_bytes(16, "big")) is not None
    put(store, Purge(NOW + limits.DAY + 1))
    assert store.mail_item("ann", (1).to_bytes(16, "big")) is None
    put(store, Purge(NOW + limits.MAILBOX_LIFE.value))
    assert store.mailbox("ann") == Mailbox(2, 1, 4)
    put(store, Purge(NOW + limits.MAILBOX_LIFE.value + 1))
    assert store.mailbox("ann") == Mailbox(2, 0, 0)


def test_a_group_info_goes_after_thirty_days(store: Store) -> None:
    put(store, PutGroupInfo(LOG, 3, NOW, b"info"))
    put(store, Purge(NOW + limits.MAILBOX_LIFE.value))
    assert store.group_info(LOG, 3, 0, 9) == (4, b"info")
    put(store, Purge(NOW + limits.MAILBOX_LIFE.value + 1))
    assert store.group_info(LOG, 3, 0, 9) is None


def test_invites_parts_and_answers_go_with_their_time(store: Store) -> None:
    put(
        store,
        PutInvite(InviteRow(b"v" * 16, H, 1, NOW, "ann")),
        PutPart("ann", H, 9, 0, b"1", NOW),
        PutEnrolment(b"v" * 16, H, b"reply", NOW - limits.ENROLMENT_LIFE.value),
    )
    put(store, Purge(NOW))
    assert store.invite(b"v" * 16) is not None
    assert store.staged("ann") != []
    assert store.enrolment(b"v" * 16, H) is not None
    put(store, Purge(NOW + 1))
    assert (store.invite(b"v" * 16), store.staged("ann"), store.enrolment(b"v" * 16, H)) == (None, [], None)
