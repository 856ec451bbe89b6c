"""Rooms at the relay: create, post, commit; access by token; what is refused and what gets the same answer."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from cloister.primitives.kdf import sha256
from cloister.wire import frames, limits
from cloister.wire.frames import NO_TOKEN, REALM_LOG, Ack, Commit, Entry, Mail, Page, Pushed, Staged, Stub
from support.relays import Client, World, item

ROOM, OTHER = b"R" * 16, b"O" * 16
T0, T1, T2, T3 = (bytes([n]) * 32 for n in range(1, 5))


def eid(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def ann(world: World) -> Client:
    return world.client("ann")


@pytest.fixture
def bob(world: World) -> Client:
    return world.client("bob")


@pytest.fixture
def room(ann: Client, bob: Client) -> bytes:
    """A room whose first epoch both have presented."""
    ann.create(ROOM, T0)
    ann.present(ROOM, T0)
    bob.present(ROOM, T0)
    return ROOM


def commit(client: Client, number: int, expects: bytes | None, following: bytes | None, **more: object) -> Commit:
    return client.a_commit(ROOM, expects, following, eid(number), **more)  # type: ignore[arg-type]


# --- refused ------------------------------------------------------------------------------------------------


def test_a_post_without_the_token_presented_is_refused(ann: Client, world: World, room: bytes) -> None:
    stranger = world.client("cy")
    assert stranger.refused(stranger.a_post(ROOM, T0, eid(1))) == "not_allowed"


def test_a_post_under_another_epochs_hash_is_refused(ann: Client, room: bytes) -> None:
    assert ann.refused(ann.a_post(ROOM, T1, eid(1))) == "not_allowed"


def test_a_token_presented_on_another_connection_counts_for_nothing(world: World, ann: Client, room: bytes) -> None:
    again = world.client("ann")
    assert again.refused(again.a_post(ROOM, T0, eid(1))) == "not_allowed"


def test_another_rooms_token_opens_nothing(ann: Client, room: bytes) -> None:
    ann.create(OTHER, T1)
    ann.present(OTHER, T1)
    assert ann.refused(frames.Present(rid=ann.next(), log=ROOM, token=T1, after=0)) == "not_allowed"
    assert ann.refused(ann.a_post(ROOM, T1, eid(1))) == "not_allowed"


@pytest.mark.parametrize("token", [b"", b"\0", T1, bytes(32)])
def test_an_unknown_token_and_an_unknown_room_get_the_same_answer(ann: Client, room: bytes, token: bytes) -> None:
    known = ann.ask(frames.Present(rid=9, log=ROOM, token=token, after=0), frames.Refused)
    unknown = ann.ask(frames.Present(rid=9, log=OTHER, token=token, after=0), frames.Refused)
    assert known == unknown
    assert known.code == "not_allowed"


@pytest.mark.parametrize("kind", ["commit", "create"])
def test_a_commit_cannot_be_posted(ann: Client, room: bytes, kind: str) -> None:
    assert ann.refused(ann.a_post(ROOM, T0, eid(1), kind=kind)) == "not_allowed"


def test_the_same_entry_id_with_other_bytes_is_a_conflict(ann: Client, room: bytes) -> None:
    ann.post(ROOM, T0, eid(1), b"one")
    assert ann.refused(ann.a_post(ROOM, T0, eid(1), b"two")) == "conflict"
    assert ann.refused(ann.a_post(ROOM, T0, eid(1), b"one", kind="handshake")) == "conflict"
    assert ann.refused(commit(ann, 1, T0, T1)) == "conflict"


def test_a_post_to_an_epoch_that_has_ended_is_stale(ann: Client, bob: Client, room: bytes) -> None:
    ann.ask(commit(ann, 1, T0, T1), Ack)
    assert bob.refused(bob.a_post(ROOM, T0, eid(2))) == "stale_epoch"


def test_a_post_to_a_room_that_has_ended_finds_no_session(ann: Client, bob: Client, room: bytes) -> None:
    ann.ask(commit(ann, 1, T0, None), Ack)
    assert bob.refused(bob.a_post(ROOM, T0, eid(2))) == "no_session"
    assert bob.refused(commit(bob, 3, T0, T1)) == "no_session"


def test_a_second_commit_is_stale(ann: Client, bob: Client, room: bytes) -> None:
    ann.ask(commit(ann, 1, T0, T1), Ack)
    assert bob.refused(commit(bob, 2, T0, T2)) == "stale_epoch"
    assert bob.refused(commit(bob, 3, T0, None)) == "stale_epoch"


def test_of_two_commits_in_one_batch_the_first_wins(world: World, ann: Client, bob: Client, room: bytes) -> None:
    ann.say(commit(ann, 1, T0, T1))
    bob.say(commit(bob, 2, T0, T2))
    bob.say(bob.a_post(ROOM, T0, eid(3)))
    world.step()
    assert [type(frame).__name__ for frame in ann.hear()] == ["Ack", "Pushed"]
    refused = [frame.code for frame in bob.hear() if isinstance(frame, frames.Refused)]
    assert refused == ["stale_epoch", "stale_epoch"]


def test_a_second_create_is_stale(ann: Client, bob: Client, room: bytes) -> None:
    assert bob.refused(commit(bob, 5, None, T2)) == "stale_epoch"


def test_a_create_without_an_epoch_is_refused(ann: Client) -> None:
    assert ann.refused(commit(ann, 5, None, None)) == "bad_encoding"


def test_a_token_that_the_log_knows_already_cannot_come_next(ann: Client, room: bytes) -> None:
    assert ann.refused(commit(ann, 1, T0, T0)) == "conflict"
    ann.ask(commit(ann, 2, T0, T1), Ack)
    ann.present(ROOM, T1)
    assert ann.refused(commit(ann, 3, T1, T0)) == "conflict"
    nobody = frames.Commit(
        rid=ann.next(), log=ROOM, expects=sha256(T1), entry_id=eid(4), payload=b"", next=NO_TOKEN,
        group_info=None, items=[],
    )  # fmt: skip
    assert ann.refused(nobody) == "conflict"


def test_a_contest_is_not_known_yet(ann: Client, room: bytes) -> None:
    frame = commit(ann, 1, T0, T1)
    contest = frames.Commit(
        rid=frame.rid, log=ROOM, expects=frame.expects, entry_id=frame.entry_id, payload=b"", next=frame.next,
        group_info=None, items=[], contest=True,
    )  # fmt: skip
    assert ann.refused(contest) == "unsupported"


def test_the_realm_log_takes_no_posts_and_no_commits(ann: Client) -> None:
    ann.present(REALM_LOG)
    assert ann.refused(ann.a_post(REALM_LOG, b"", eid(1))) == "not_allowed"
    assert ann.refused(ann.a_commit(REALM_LOG, None, T0, eid(2))) == "not_allowed"
    assert ann.refused(frames.Present(rid=ann.next(), log=REALM_LOG, token=T0, after=0)) == "not_allowed"


def test_a_refused_commit_changes_nothing(world: World, ann: Client, bob: Client, room: bytes) -> None:
    good, bad = (
        item(world.people["bob"], eid(1)),
        Mail(device="cloister://home.example/u/no/d/one", item_id=eid(2), body=b""),
    )
    assert ann.refused(commit(ann, 1, T0, T1, items=(good, bad))) == "unknown_sender"
    assert bob.ask(frames.MailOpen(rid=bob.next(), after=0), frames.Done)
    assert bob.hear() == []
    assert ann.post(ROOM, T0, eid(3)) == 2


# --- the same answer again ----------------------------------------------------------------------------------


def test_the_same_post_again_gets_the_same_ack(world: World, ann: Client, room: bytes) -> None:
    seq = ann.post(ROOM, T0, eid(1), b"one")
    ann.hear()
    world.now += 5000
    again = ann.ask(ann.a_post(ROOM, T0, eid(1), b"one"), Ack)
    assert (again.seq, again.ts_ms) == (seq, world.now - 5000)
    assert world.store.last(ROOM).seq == seq  # type: ignore[union-attr]


def test_a_repeated_post_that_is_not_stored_yet_is_stored_once(world: World, ann: Client, room: bytes) -> None:
    ann.say(ann.a_post(ROOM, T0, eid(1), b"one"))
    ann.say(ann.a_post(ROOM, T0, eid(1), b"one"))
    world.step()
    acks = [frame for frame in ann.hear() if isinstance(frame, Ack)]
    assert [ack.seq for ack in acks] == [2, 2]
    assert world.store.last(ROOM).seq == 2  # type: ignore[union-attr]


def test_a_repeated_post_after_the_epochs_end_gets_its_ack(ann: Client, bob: Client, room: bytes) -> None:
    seq = bob.post(ROOM, T0, eid(1), b"one")
    ann.ask(commit(ann, 2, T0, T1), Ack)
    assert bob.post(ROOM, T0, eid(1), b"one") == seq


def test_a_repeated_post_after_a_restart_gets_its_ack(world: World, ann: Client, room: bytes) -> None:
    seq = ann.post(ROOM, T0, eid(1), b"one")
    world.start()
    again = world.client("ann")
    again.present(ROOM, T0)
    assert again.post(ROOM, T0, eid(1), b"one") == seq
    assert again.refused(again.a_post(ROOM, T0, eid(1), b"two")) == "conflict"


def test_equal_commits_are_one(ann: Client, bob: Client, room: bytes) -> None:
    first = ann.ask(commit(ann, 1, T0, T1, payload=b"mine"), Ack)
    other = bob.ask(commit(bob, 2, T0, T1, payload=b"yours"), Ack)
    assert (other.seq, other.head.seq) == (first.seq, first.seq)
    assert ann.ask(commit(ann, 1, T0, T1, payload=b"mine"), Ack).seq == first.seq


def test_equal_creates_are_one_stored_or_not(world: World, ann: Client, bob: Client) -> None:
    ann.say(commit(ann, 1, None, T0))
    bob.say(commit(bob, 2, None, T0))
    world.step()
    assert [frame.seq for frame in (*ann.hear(), *bob.hear()) if isinstance(frame, Ack)] == [1, 1]
    assert bob.ask(commit(bob, 3, None, T0), Ack).seq == 1
    assert bob.ask(commit(bob, 2, None, T0), Ack).seq == 1


# --- what tokens open ---------------------------------------------------------------------------------------


def test_a_token_opens_its_epoch_and_the_commit_that_made_it(world: World, ann: Client, room: bytes) -> None:
    ann.post(ROOM, T0, eid(1), b"old")
    ann.ask(commit(ann, 2, T0, T1), Ack)
    ann.present(ROOM, T1, after=3)
    ann.post(ROOM, T1, eid(3), b"new")
    newcomer = world.client("cy")
    page = newcomer.present(ROOM, T1)
    assert [(type(each).__name__, each.kind) for each in page.entries] == [
        ("Stub", "create"), ("Stub", "application"), ("Entry", "commit"), ("Entry", "application"),
    ]  # fmt: skip
    assert [each.epoch for each in page.entries] == [0, 1, 1, 2]


def test_a_page_does_not_go_past_the_commit_that_ends_the_epoch(world: World, ann: Client, room: bytes) -> None:
    ann.post(ROOM, T0, eid(1))
    ann.ask(commit(ann, 2, T0, T1), Ack)
    ann.present(ROOM, T1, after=3)
    ann.post(ROOM, T1, eid(3))
    late = world.client("bob")
    page = late.present(ROOM, T0)
    assert [each.seq for each in page.entries] == [1, 2, 3]
    assert not page.more
    assert late.present(ROOM, T0, after=3).entries == []
    page = late.present(ROOM, T1, after=3)
    assert [each.seq for each in page.entries] == [4]


def test_what_an_earlier_token_of_the_connection_opens_stays_open(world: World, ann: Client, room: bytes) -> None:
    ann.post(ROOM, T0, eid(1))
    ann.ask(commit(ann, 2, T0, T1), Ack)
    late = world.client("bob")
    late.present(ROOM, T0)
    assert all(isinstance(each, Entry) for each in late.present(ROOM, T1).entries)


def test_a_removed_member_gets_nothing_past_the_commit(ann: Client, bob: Client, room: bytes) -> None:
    bob.hear()
    ann.ask(commit(ann, 1, T0, T1), Ack)
    ann.present(ROOM, T1, after=2)
    ann.post(ROOM, T1, eid(2), b"not for bob")
    heard = bob.hear()
    assert [type(frame) for frame in heard] == [Pushed]
    assert [each.seq for frame in heard if isinstance(frame, Pushed) for each in frame.entries] == [2]
    assert [each.seq for each in bob.present(ROOM, T0).entries] == [1, 2]


def test_only_the_newest_tokens_of_a_log_are_remembered(world: World, ann: Client) -> None:
    tokens = [bytes([number]) * 32 for number in range(100, 102 + limits.TOKENS.value)]
    ann.create(ROOM, tokens[0])
    for number, (old, new) in enumerate(itertools.pairwise(tokens)):
        ann.present(ROOM, old)
        ann.ask(commit(ann, number, old, new), Ack)
        world.now += 60_000
    late = world.client("bob")
    for token in tokens[: limits.TOKENS.value + 1]:
        page = late.present(ROOM, token)
    assert [isinstance(each, Entry) for each in page.entries] == [False, *[True] * (len(page.entries) - 1)]


# --- pages and heads ----------------------------------------------------------------------------------------


def test_every_page_and_push_verifies_on_its_own(world: World, ann: Client, bob: Client, room: bytes) -> None:
    bob.hear()
    pushed = []
    for number in range(5):
        ann.post(ROOM, T0, eid(number), bytes(60_000))
        pushed += [frame for frame in bob.hear() if isinstance(frame, Pushed)]
    late = world.client("cy")
    chain, after, pages = world.chain(ROOM), 0, 0
    while True:
        page = late.present(ROOM, T0, after)
        chain = chain.extend(page.entries, page.head, world.head_keys)
        assert chain.seq == page.head.seq
        after, pages = chain.seq, pages + 1
        if not page.more:
            break
    assert (chain.seq, pages) == (6, 2)
    chain = world.chain(ROOM).step(late.present(ROOM, T0).entries[0])
    for frame in pushed:
        chain = chain.extend(frame.entries, frame.head, world.head_keys)
    assert chain.seq == 6


def test_a_page_is_full_at_its_limit(world: World, ann: Client, room: bytes) -> None:
    for number in range(4):
        ann.post(ROOM, T0, eid(number), bytes(limits.RECORD.value))
    page = world.client("cy").present(ROOM, T0)
    assert page.more
    assert len(frames.encode(page)) <= limits.FRAME.value
    assert len(page.entries) == 3


def test_an_entry_larger_than_a_page_goes_alone(world: World, ann: Client, room: bytes) -> None:
    big = bytes(200 * limits.KIB)
    ann.ask(commit(ann, 1, T0, T1, payload=big), Ack)
    page = world.client("cy").present(ROOM, T0, after=0)
    assert (len(page.entries), page.more) == (1, True)
    page = world.client("cy").present(ROOM, T0, after=1)
    assert [len(each.payload) for each in page.entries if isinstance(each, Entry)] == [len(big)]


def test_stubs_come_four_kib_at_a_time(world: World, ann: Client, room: bytes) -> None:
    for number in range(40):
        ann.post(ROOM, T0, eid(number))
    ann.ask(commit(ann, 99, T0, T1), Ack)
    page = world.client("cy").present(ROOM, T1)
    assert page.more
    assert all(isinstance(each, Stub) for each in page.entries)
    assert len(frames.encode(page)) <= limits.STUBS.value + 512


def test_an_empty_page_is_signed_at_its_place(world: World, ann: Client, room: bytes) -> None:
    ann.post(ROOM, T0, eid(1))
    ann.ask(commit(ann, 2, T0, T1), Ack)
    late = world.client("cy")
    page = late.present(ROOM, T0, after=3)
    assert (page.entries, page.head.seq, page.more) == ([], 3, False)
    assert late.present(ROOM, T1, after=77).head.seq == 3


def test_acks_carry_a_head_that_covers_the_entry(world: World, ann: Client, room: bytes) -> None:
    for number in range(3):
        ann.say(ann.a_post(ROOM, T0, eid(number)))
    world.step()
    acks = [frame for frame in ann.hear() if isinstance(frame, Ack)]
    assert [ack.seq for ack in acks] == [2, 3, 4]
    for ack in acks:
        world.head_keys.verify(ROOM, ack.head)
        assert ack.head.seq == 4


def test_times_of_a_log_never_go_back(world: World, ann: Client, room: bytes) -> None:
    first = ann.ask(ann.a_post(ROOM, T0, eid(1)), Ack)
    world.now -= 60_000
    assert ann.ask(ann.a_post(ROOM, T0, eid(2)), Ack).ts_ms == first.ts_ms


# --- commits carry ------------------------------------------------------------------------------------------


def test_a_commit_stores_group_info_and_mail_with_it(world: World, ann: Client, bob: Client, room: bytes) -> None:
    bob.ask(frames.MailOpen(rid=bob.next(), after=0), frames.Done)
    bob.hear()
    mail = item(world.people["bob"], eid(7), b"welcome")
    frame = commit(ann, 1, T0, T1, payload=b"c", group_info=b"sealed info", items=(mail,))
    ann.say(frame)
    assert bob.hear() == []
    world.step()
    heard = bob.hear()
    assert {type(each) for each in heard} == {frames.Mailed, Pushed}
    (entry,) = next(each.entries for each in heard if isinstance(each, Pushed))
    assert isinstance(entry, Entry)
    assert entry.group_info_hash == sha256(b"sealed info")
    assert entry.item_hashes == [sha256(b"welcome")]
    assert entry.next_token_hash == sha256(T1)


def test_staged_parts_make_a_commit_whole(world: World, ann: Client, bob: Client, room: bytes) -> None:
    big = bytes(range(256)) * 2000
    size = 200_000
    for offset in range(0, len(big), size):
        part = big[offset : offset + size]
        stage = frames.Stage(rid=ann.next(), hash=sha256(big), size=len(big), offset=offset, data=part)
        ann.ask(stage, frames.Done)
    staged = Staged(hash=sha256(big), size=len(big))
    ack = ann.ask(commit(ann, 1, T0, T1, payload=staged), Ack)
    page = bob.present(ROOM, T0, after=ack.seq - 1)
    assert [entry.payload for entry in page.entries if isinstance(entry, Entry)] == [big]
    assert ann.ask(commit(ann, 1, T0, T1, payload=staged), Ack).seq == ack.seq


def test_a_group_info_is_read_in_parts_with_the_token_of_its_epoch_alone(
    world: World, ann: Client, bob: Client, room: bytes
) -> None:
    """Also when later commits have followed, and never with the token of the epoch that the commit ended."""
    info = bytes(range(256)) * 600
    ann.ask(commit(ann, 1, T0, T1, group_info=info), Ack)
    ann.present(ROOM, T1)
    ann.ask(commit(ann, 2, T1, T2, group_info=b"the next one's"), Ack)
    ann.present(ROOM, T2)
    ann.ask(commit(ann, 3, T2, T3), Ack)

    def get(token: bytes, offset: int = 0) -> frames.GetGroupInfo:
        return frames.GetGroupInfo(rid=bob.next(), log=ROOM, token=token, offset=offset)

    first = bob.ask(get(T1), frames.GroupInfo)
    assert (first.size, first.data) == (len(info), info[: limits.PART.value])
    rest = bob.ask(get(T1, limits.PART.value), frames.GroupInfo)
    assert first.data + rest.data == info
    assert bob.ask(get(T2), frames.GroupInfo).data == b"the next one's"
    assert bob.refused(get(T1, len(info))) == "no_session"
    assert bob.refused(get(T0)) == bob.refused(get(T3)) == "no_session"
    assert bob.refused(get(bytes(32))) == "not_allowed"


def test_mailbox_items_that_exceed_the_frame_come_in_parts(world: World, ann: Client, bob: Client, room: bytes) -> None:
    bob.ask(frames.MailOpen(rid=bob.next(), after=0), frames.Done)
    mails = [item(world.people["bob"], eid(number), bytes([number]) * 60_000) for number in range(8)]
    data = frames.encode_items(mails[1:])

    def stage() -> None:
        for offset in range(0, len(data), limits.PART.value):
            part = data[offset : offset + limits.PART.value]
            ann.ask(frames.Stage(ann.next(), sha256(data), len(data), offset, part), frames.Done)

    frame = commit(ann, 1, T0, T1, items=(mails[0],), staged_items=Staged(hash=sha256(data), size=len(data)))
    assert ann.refused(frame) == "not_ready"
    assert bob.present(ROOM, T0).entries[-1].kind == "create"
    stage()
    ack = ann.ask(msgspec.structs.replace(frame, rid=ann.next()), Ack)
    entry = bob.present(ROOM, T0, after=ack.seq - 1).entries[0]
    assert isinstance(entry, Entry)
    assert entry.item_hashes == sorted(sha256(mail.body) for mail in mails)
    stage()
    assert ann.ask(msgspec.structs.replace(frame, rid=ann.next()), Ack).seq == ack.seq
    assert world.core._mailboxes.waiting(mails[0].device) == 8


def test_staged_items_count_and_must_be_items(world: World, ann: Client, room: bytes) -> None:
    mails = [item(world.people["bob"], eid(number)) for number in range(limits.COMMIT_ITEMS.value)]
    for data, more, code in (
        (frames.encode_items(mails), (item(world.people["bob"], eid(999)),), "quota"),
        (b"no items", (), "bad_encoding"),
    ):
        ann.ask(frames.Stage(ann.next(), sha256(data), len(data), 0, data), frames.Done)
        staged = Staged(hash=sha256(data), size=len(data))
        assert ann.refused(commit(ann, 1, T0, T1, items=more, staged_items=staged)) == code


def test_a_commit_is_at_most_eight_mib(world: World, ann: Client, room: bytes) -> None:
    over = Staged(hash=sha256(b"x"), size=limits.COMMIT.value + 1)
    assert ann.refused(commit(ann, 1, T0, T1, payload=over)) == "quota"
    at = Staged(hash=sha256(b"x"), size=limits.COMMIT.value)
    assert ann.refused(commit(ann, 1, T0, T1, payload=at)) == "not_ready"


# --- rates --------------------------------------------------------------------------------------------------


def test_a_devices_commits_are_three_at_once_and_one_each_ten_seconds(world: World, ann: Client) -> None:
    rooms = [bytes([number]) * 16 for number in range(1, 6)]
    for room in rooms:
        ann.create(room, T0)
        ann.present(room, T0)
    for number, room in enumerate(rooms[:3]):
        ann.ask(ann.a_commit(room, T0, T1, eid(number)), Ack)
    assert ann.refused(ann.a_commit(rooms[3], T0, T1, eid(3))) == "quota"
    world.now += limits.COMMIT_RATE.value - 1
    assert ann.refused(ann.a_commit(rooms[3], T0, T1, eid(3))) == "quota"
    world.now += 1
    ann.ask(ann.a_commit(rooms[3], T0, T1, eid(3)), Ack)


def test_a_rooms_commits_are_ten_at_once_and_one_a_second() -> None:
    world = World(names=tuple(f"p{number}" for number in range(5)))
    clients = [world.client(name, f"192.0.2.{number}") for number, name in enumerate(world.names)]
    tokens = [sha256(bytes([number])) for number in range(14)]
    clients[0].create(ROOM, tokens[0])
    for number in range(10):
        client = clients[number // 3]
        client.present(ROOM, tokens[number])
        client.ask(client.a_commit(ROOM, tokens[number], tokens[number + 1], eid(number)), Ack)
    client = clients[4]
    client.present(ROOM, tokens[10])
    frame = client.a_commit(ROOM, tokens[10], tokens[11], eid(10))
    assert client.refused(frame) == "quota"
    world.now += limits.ROOM_COMMIT_RATE.value
    client.ask(frame, Ack)


def test_a_lost_race_spends_no_rate(world: World, ann: Client, bob: Client, room: bytes) -> None:
    ann.ask(commit(ann, 1, T0, T1), Ack)
    for number in range(5):
        assert bob.refused(commit(bob, 10 + number, T0, T2)) == "stale_epoch"
    bob.present(ROOM, T1)
    bob.ask(commit(bob, 20, T1, T2), Ack)


def test_a_device_makes_a_hundred_rooms_a_day(world: World, ann: Client) -> None:
    for number in range(limits.USER_ROOMS.value):
        ann.ask(ann.a_commit(eid(1000 + number), None, T0, eid(1)), Ack)
    assert ann.refused(ann.a_commit(eid(7), None, T0, eid(1))) == "quota"
    world.now += limits.DAY
    ann.ask(ann.a_commit(eid(7), None, T0, eid(1)), Ack)


def test_a_connections_requests_are_two_thousand_at_once(world: World, ann: Client, room: bytes) -> None:
    flooder = world.client("cy")
    burst = 5 * limits.POST_RATE.value
    for _ in range(burst):
        flooder.say(frames.UserList(rid=1))
    flooder.hear()
    assert flooder.refused(frames.UserList(rid=1)) == "quota"
    world.now += 1000
    for _ in range(limits.POST_RATE.value):
        flooder.say(frames.UserList(rid=1))
    assert all(isinstance(frame, frames.Users) for frame in flooder.hear())
    assert flooder.refused(frames.UserList(rid=1)) == "quota"
    assert ann.post(ROOM, T0, eid(1)) == 2


# --- failures of the disk -----------------------------------------------------------------------------------


def test_nothing_is_acknowledged_or_pushed_before_the_commit(
    world: World, ann: Client, bob: Client, room: bytes
) -> None:
    bob.hear()
    ann.say(ann.a_post(ROOM, T0, eid(1)))
    batch = world.core.take_batch()
    assert batch is not None
    assert (ann.hear(), bob.hear()) == ([], [])
    world.store.apply(batch.writes)
    assert (ann.hear(), bob.hear()) == ([], [])
    world.core.committed(batch, world.now)
    assert [type(frame) for frame in ann.hear()] == [Ack, Pushed]
    assert [type(frame) for frame in bob.hear()] == [Pushed]


def test_a_failed_commit_acknowledges_nothing_and_ends_every_connection(world: World, ann: Client, room: bytes) -> None:
    ann.hear()
    ann.say(ann.a_post(ROOM, T0, eid(1)))
    world.core.take_batch()
    world.core.failed()
    assert ann.hear() == [frames.Bye(code="disk")]
    assert ann.wire.closed == "disk"
    ann.say(ann.a_post(ROOM, T0, eid(2)))
    assert world.core.take_batch() is None


def test_a_page_shows_only_what_has_been_committed(world: World, ann: Client, room: bytes) -> None:
    ann.say(ann.a_post(ROOM, T0, eid(1)))
    batch = world.core.take_batch()
    assert batch is not None
    world.store.apply(batch.writes)
    late = world.client("cy")
    late.say(frames.Present(rid=1, log=ROOM, token=T0, after=0))
    (page,) = late.hear()
    assert isinstance(page, Page)
    assert ([each.seq for each in page.entries], page.head.seq) == ([1], 1)
    world.core.committed(batch, world.now)
    (pushed,) = late.hear()
    assert isinstance(pushed, Pushed)
    assert [each.seq for each in pushed.entries] == [2]


def test_an_epoch_that_is_not_stored_yet_cannot_be_presented(world: World, ann: Client) -> None:
    ann.say(commit(ann, 1, None, T0))
    ann.say(frames.Present(rid=5, log=ROOM, token=T0, after=0))
    assert [frame.code for frame in ann.hear() if isinstance(frame, frames.Refused)] == ["not_allowed"]


def test_a_full_disk_refuses_what_stores_and_serves_what_reads(world: World, ann: Client, room: bytes) -> None:
    world.core.full = True
    assert ann.refused(ann.a_post(ROOM, T0, eid(1))) == "storage_full"
    assert ann.present(ROOM, T0).head.seq == 1
    world.core.full = False
    assert ann.post(ROOM, T0, eid(1)) == 2
