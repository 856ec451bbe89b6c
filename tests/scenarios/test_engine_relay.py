"""The client core against a relay that says something wrong, late or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from cloister.engine import rooms as engine_rooms
from cloister.engine import values
from cloister.engine.logs import CLAIM_PATIENCE, LogState
from cloister.engine.unit import Unit
from cloister.errors import UsageError
from cloister.protocols.interface import Direct, Effects, Envelope, Need, NotReady, State
from cloister.testing import clock
from cloister.testing.realm import SmallRealm
from cloister.wire import frames
from cloister.wire.frames import REALM_LOG, Entry
from cloister.wire.limits import DAY, INVITES
from cloister.wire.log import stub_of
from support.world import World, live, small_realm


@pytest.fixture(scope="module")
def realm() -> SmallRealm:
    return small_realm()


def altered(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, payload=entry.payload[:-1] + bytes([entry.payload[-1] ^ 1]))


def test_an_altered_realm_log_is_named_and_nothing_is_built_on_it(realm: SmallRealm) -> None:
    def lie(client: str, frame: frames.Answer) -> Sequence[frames.Frame]:
        if isinstance(frame, frames.Page) and frame.log == REALM_LOG and client == "alice":
            shown = [altered(entry) if isinstance(entry, Entry) else entry for entry in frame.entries]
            return [msgspec.structs.replace(frame, entries=shown)]
        return [frame]

    async def story(world: World) -> None:
        world.twist = lie
        await world.until(lambda: world.alarms("alice"))
        assert not world.devices["alice"].engine.knows("alice")
        assert list(world.devices["alice"].store.open().scan("entry")) == []
        await asyncio.sleep(60)

    assert live(story, realm).alarms("alice") == ["bad_chain"]


def test_a_realm_log_with_a_record_kept_back_is_named(realm: SmallRealm) -> None:
    def lie(client: str, frame: frames.Answer) -> Sequence[frames.Frame]:
        if isinstance(frame, frames.Page) and frame.log == REALM_LOG:
            shown = [
                *frame.entries[:1],
                *(stub_of(each) if isinstance(each, Entry) else each for each in frame.entries[1:]),
            ]
            return [msgspec.structs.replace(frame, entries=shown)]
        return [frame]

    async def story(world: World) -> None:
        world.twist = lie
        await world.until(lambda: world.alarms("alice"))

    assert live(story, realm).alarms("alice") == ["bad_chain"]


def test_a_page_of_another_log_is_misrouted(realm: SmallRealm) -> None:
    def lie(_client: str, frame: frames.Answer) -> Sequence[frames.Frame]:
        return [msgspec.structs.replace(frame, log=b"x" * 16)] if isinstance(frame, frames.Page) else [frame]

    async def story(world: World) -> None:
        world.twist = lie
        await world.until(lambda: world.alarms("alice"))

    assert live(story, realm).alarms("alice")[0] == "misrouted"


def test_a_forged_mailbox_key_is_named_and_nothing_is_sealed_to_it(realm: SmallRealm) -> None:
    def lie(_client: str, frame: frames.Answer) -> Sequence[frames.Frame]:
        if isinstance(frame, frames.MailKeys):
            forged = [None if each is None else each[:-1] + bytes([each[-1] ^ 1]) for each in frame.statements]
            return [msgspec.structs.replace(frame, statements=forged)]
        return [frame]

    async def story(world: World) -> None:
        world.twist = lie
        await world.online()
        await world.devices["alice"].execute(values.CreateRoom(title="x", suite="nonces", members=["bob"]))
        await world.until(lambda: world.alarms("alice"))
        await asyncio.sleep(30)
        assert world.devices["bob"].engine.rooms.rooms == {}

    assert live(story, realm).alarms("alice") == ["bad_sig"]


def test_mailbox_keys_that_were_not_asked_for_end_the_connection(realm: SmallRealm) -> None:
    def lie(_client: str, frame: frames.Answer) -> Sequence[frames.Frame]:
        return [msgspec.structs.replace(frame, statements=[])] if isinstance(frame, frames.MailKeys) else [frame]

    async def story(world: World) -> None:
        world.twist = lie
        await world.online()
        await world.devices["alice"].execute(values.CreateRoom(title="x", suite="nonces", members=["bob"]))
        await world.until(lambda: world.alarms("alice"))

    assert live(story, realm).alarms("alice")[0] == "bad_encoding"


def test_who_is_behind_asks_again_and_misses_nothing(realm: SmallRealm) -> None:
    def slow(client: str, frame: frames.Answer) -> Sequence[frames.Frame]:
        if isinstance(frame, frames.Pushed) and client == "bob" and frame.log != REALM_LOG:
            return [frames.Behind(log=frame.log, seq=frame.head.seq)]
        return [frame]

    async def story(world: World) -> None:
        room = await world.room("bob")
        world.twist = slow
        for number in range(3):
            await world.devices["alice"].execute(values.Send(room=room, text=str(number)))
        await world.until(lambda: world.texts("bob") == ["0", "1", "2"])

    assert live(story, realm).alarms("bob") == []


def test_a_push_that_never_came_is_fetched(realm: SmallRealm) -> None:
    lost: list[frames.Answer] = []

    def lossy(client: str, frame: frames.Answer) -> Sequence[frames.Frame]:
        if isinstance(frame, frames.Pushed) and client == "bob" and frame.log != REALM_LOG and not lost:
            lost.append(frame)
            return []
        return [frame]

    async def story(world: World) -> None:
        room = await world.room("bob")
        world.twist = lossy
        await world.devices["alice"].execute(values.Send(room=room, text="lost at first"))
        await asyncio.sleep(1)
        await world.devices["alice"].execute(values.Send(room=room, text="second"))
        await world.until(lambda: world.texts("bob") == ["lost at first", "second"])
        assert lost

    assert live(story, realm).alarms("bob") == []


def test_an_acknowledged_entry_that_never_comes_is_withheld(realm: SmallRealm) -> None:
    def keep_back(client: str, frame: frames.Answer) -> Sequence[frames.Frame]:
        if isinstance(frame, frames.Pushed) and client == "alice" and frame.log != REALM_LOG:
            return []
        return [frame]

    async def story(world: World) -> None:
        room = await world.room("bob")
        world.twist = keep_back
        await world.devices["alice"].execute(values.Send(room=room, text="where is it"))
        await asyncio.sleep(CLAIM_PATIENCE / 1000 + 5)
        assert world.info("alice", room).alarms == ["withheld"]  # type: ignore[union-attr]

    assert "withheld" in live(story, realm).alarms("alice")


def test_an_entry_that_names_a_realm_log_that_does_not_exist_blocks_nobody(realm: SmallRealm) -> None:
    """An insider's order with a log size of the far future: the room goes on behind it."""

    async def story(world: World) -> None:
        room = await world.room("bob")
        session = world.devices["bob"].engine.rooms.rooms[bytes.fromhex(room)].session
        receive, far = session.receive, (1 << 40).to_bytes(8, "big")
        hit: list[int] = []

        def blocked(envelope: Envelope, now: int, rng: object) -> Effects:
            if not hit or envelope.seq == hit[0]:
                hit[:] = [envelope.seq]
                return (Need(what="realm", ids=(far,)),)
            return receive(envelope, now, rng)  # type: ignore[arg-type]

        session.receive = blocked  # type: ignore[method-assign]
        await world.devices["alice"].execute(values.Send(room=room, text="names the future"))
        await asyncio.sleep(1)
        await world.devices["alice"].execute(values.Send(room=room, text="behind it"))
        await world.until(lambda: world.texts("bob") == ["behind it"])

    assert live(story, realm).alarms("bob") == ["gap"]


def test_a_refused_run_is_told_to_its_session(realm: SmallRealm) -> None:
    def refuse(client: str, frame: frames.Answer) -> Sequence[frames.Frame]:
        if isinstance(frame, frames.Done) and client == "alice" and not refused:
            refused.append(frame.rid)
            return [frames.Refused(rid=frame.rid, code="conflict")]
        return [frame]

    refused: list[int] = []

    async def story(world: World) -> None:
        await world.online()
        await asyncio.sleep(2)
        world.twist = refuse
        await world.devices["alice"].execute(values.CreateRoom(title="x", suite="nonces", members=["bob"]))
        await world.until(lambda: refused)
        await asyncio.sleep(30)
        assert world.devices["alice"].engine.outbox.queued == 0

    live(story, realm)


def test_a_session_that_refuses_an_intent_later_says_so(realm: SmallRealm, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World) -> None:
        room = await world.room("bob", "carol")
        alice = world.devices["alice"]
        await alice.execute(values.RemoveMembers(room=room, users=["carol"]))
        await alice.execute(values.AddMembers(room=room, users=["carol"]))
        await world.until(lambda: world.info("bob", room).epoch >= 2)  # type: ignore[union-attr]
        await asyncio.sleep(60)
        assert list(alice.store.open().scan("intent")) == []

    live(story, realm)


def test_mail_to_a_device_that_is_gone_is_given_up(realm: SmallRealm) -> None:
    def nobody(_client: str, frame: frames.Answer) -> Sequence[frames.Frame]:
        if isinstance(frame, frames.MailKeys):
            return [msgspec.structs.replace(frame, statements=[None] * len(frame.statements))]
        return [frame]

    async def story(world: World) -> None:
        room = await world.room("bob")
        world.twist = nobody
        alice = world.devices["alice"]
        alice.crash()
        alice.start()
        await world.until(lambda: alice.engine.link.online)
        here = alice.engine.rooms.rooms[bytes.fromhex(room)]
        direct = Direct(device=realm.accounts["carol"].device, kind="here", body=b"\x80")
        unit = alice.engine._unit(0)
        alice.engine.rooms.apply(unit, here, (direct,))
        assert len(alice.engine.outbox.rows) == 1
        await alice.execute(values.GetStatus())
        await world.until(lambda: not alice.engine.outbox.rows)

    live(story, realm)


def test_mailbox_keys_that_are_refused_are_asked_for_again(realm: SmallRealm) -> None:
    refused: list[int] = []

    def busy(client: str, frame: frames.Answer) -> Sequence[frames.Frame]:
        if isinstance(frame, frames.MailKeys) and client == "alice" and not refused:
            refused.append(frame.rid)
            return [frames.Refused(rid=frame.rid, code="quota")]
        return [frame]

    async def story(world: World) -> None:
        world.twist = busy
        await world.room("bob")
        assert refused

    live(story, realm)


def test_what_is_larger_than_a_mailbox_item_is_said_so_and_ends_nothing(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        room = await world.room("bob")
        alice = world.devices["alice"]
        here = alice.engine.rooms.rooms[bytes.fromhex(room)]
        direct = Direct(device=realm.accounts["bob"].device, kind="here", body=bytes(70_000))
        alice.engine.rooms.apply(alice.engine._unit(0), here, (direct,))
        await alice.execute(values.Send(room=room, text="still here"))
        await world.until(lambda: "still here" in world.texts("bob"))
        await world.until(lambda: not alice.engine.outbox.rows)

    assert live(story, realm).alarms("alice") == ["usage"]


def test_a_relay_that_says_stale_and_stores_all_the_same_shows_one_text_once(realm: SmallRealm) -> None:
    def lie(client: str, frame: frames.Answer) -> Sequence[frames.Frame]:
        if isinstance(frame, frames.Ack) and client == "alice":
            return [frames.Refused(rid=frame.rid, code="stale_epoch")]
        return [frame]

    async def story(world: World) -> None:
        room = await world.room("bob")
        world.twist = lie
        await world.devices["alice"].execute(values.Send(room=room, text="once"))
        await world.until(lambda: world.texts("bob") == ["once"])
        await asyncio.sleep(30)
        assert world.texts("alice") == world.texts("bob") == ["once"]

    live(story, realm)


def test_a_goodbye_ends_the_connection_and_it_is_dialled_again(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        for peer in world.core._door.peers_of(realm.accounts["alice"].device):
            peer.connection.send(frames.encode(frames.Bye(code="closed")))
        await world.until(lambda: not world.devices["alice"].engine.link.online)
        await world.until(lambda: world.devices["alice"].engine.link.online)
        states = [event.state for event in world.of("alice", values.ConnectionChanged)]
        assert states[-3:] == ["offline", "connecting", "online"]

    live(story, realm)


def test_more_links_than_a_user_may_have_are_refused_by_the_relay(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        for _ in range(INVITES.value + 1):
            await world.devices["alice"].execute(values.CreateInvite(uses=1, expires=clock.now() + 10_000_000))
        await world.until(lambda: world.alarms("alice"))

    assert live(story, realm).alarms("alice") == ["quota"]


def test_a_clock_that_is_wrong_is_said_so(realm: SmallRealm) -> None:
    def late(_client: str, frame: frames.Answer) -> Sequence[frames.Frame]:
        return [frames.Refused(rid=0, code="clock_skew", number=1)] if isinstance(frame, frames.Welcome) else [frame]

    async def story(world: World) -> None:
        world.twist = late
        await world.until(lambda: world.of("alice", values.ConnectionChanged))
        await world.until(lambda: any(e.state == "offline" for e in world.of("alice", values.ConnectionChanged)))
        world.twist = lambda _client, frame: [frame]
        await world.until(lambda: world.devices["alice"].engine.link.online)

    live(story, realm)


def test_the_states_of_a_log_are_named_by_what_is_awaited() -> None:
    assert {state.value for state in LogState} >= {"to be presented", "a page is awaited"}
    assert "fork" in engine_rooms.RELAY_FAULTS


def test_an_intent_waits_while_its_session_is_busy_and_is_told_when_it_is_forbidden(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        room = await world.room("bob")
        alice = world.devices["alice"]
        here = alice.engine.rooms.rooms[bytes.fromhex(room)]
        answers: list[UsageError] = [NotReady(State.PENDING), NotReady(State.PENDING), UsageError("not_allowed")]

        def change(_changes: object, _now: int, _rng: object) -> Effects:
            raise answers.pop(0)

        here.session.change = change  # type: ignore[method-assign]
        await alice.execute(values.RekeyRoom(room=room))
        for number in range(3):
            await world.devices["bob"].execute(values.Send(room=room, text=str(number)))
            await world.until(lambda count=number + 1: len(world.texts("alice")) == count)  # type: ignore[misc]
        assert not answers
        assert list(alice.store.open().scan("intent")) == []

    assert live(story, realm).alarms("alice") == ["not_allowed"]


def test_key_packages_are_counted_when_the_relay_says_they_are_low_and_forgotten_when_they_have_ended(
    realm: SmallRealm,
) -> None:
    async def story(world: World) -> None:
        await world.online()
        alice = world.devices["alice"]
        await world.until(lambda: list(alice.store.open().scan("prekey")))
        before = dict(alice.store.open().scan("prekey"))
        for peer in world.core._door.peers_of(realm.accounts["alice"].device):
            peer.connection.send(frames.encode(frames.PrekeysLow(suite="mls")))
            peer.connection.send(frames.encode(frames.PrekeysLow(suite="unknown")))
        await asyncio.sleep(5)
        assert dict(alice.store.open().scan("prekey")) == before
        unit = Unit(alice.store.open(), clock.now() + 400 * DAY, bytes, lambda: 0)
        alice.engine._prekeys.purge(unit)
        assert len(unit.writes) == len(before)
        assert alice.engine._prekeys.own(unit, b"no such package") is None

    assert live(story, realm).alarms("alice") == []
