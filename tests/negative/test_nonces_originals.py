"""Document 000 without a fix, and the attack that the fix answers: it succeeds there, and the suite refuses it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cloister.codec.cbor import enc
from cloister.errors import PeerError
from cloister.lab.originals.nonces import (
    BareHash,
    Document,
    FewAnswers,
    InClear,
    KeyAtRest,
    NoCommitment,
    NoConfirm,
    NoWrap,
    PlusOne,
)
from cloister.primitives.dh import DhKey
from cloister.primitives.kdf import hkdf
from cloister.primitives.labelled import labelled
from cloister.protocols import contribution_steps as forms_of
from cloister.protocols import nonces_steps as steps
from cloister.protocols import record as records
from cloister.protocols import run as runs
from cloister.protocols.agreement import RUN, Run
from cloister.protocols.context import Party, party_of
from cloister.protocols.contribution_steps import Confirm, Hello, Shares
from cloister.protocols.epochs import EPOCH
from cloister.protocols.interface import Add, Envelope, State
from cloister.protocols.nonces import Nonces
from cloister.protocols.nonces_steps import Steps
from cloister.protocols.ratchet import message_key, next_key, split
from cloister.protocols.record import Gcm
from support.suite_net import MINUTE, POLICY, ROOM, Net, Node, agreed, assembly, keys_of, users


def _mixed(honest: Steps, cheat: Steps, n: int = 3, seed: object = 0) -> tuple[Net, list[Node]]:
    """A run in which the last member's steps are others than its peers'."""
    net = Net(seed=seed)
    nodes = [net.node(Nonces(cheat if index == n - 1 else honest), user, index) for index, user in enumerate(users(n))]
    nodes[0].create(ROOM, POLICY)
    nodes[0].change(*(Add(node.name) for node in nodes[1:]))
    net.settle()
    return net, nodes


def _codes(nodes: list[Node]) -> set[str]:
    return {fault.code for node in nodes for fault in node.faults}


def _same_variant(steps_: Steps, like: type[Steps] = Steps) -> Steps:
    """The steps under the variant that the victims consented to."""
    steps_.variant = like.variant
    return steps_


class Reader:
    """Somebody who holds a run's secret and log and no member's keys: what the relay would see without the seal."""

    def __init__(self, net: Net, run: Run) -> None:
        self.run = run
        self.party: Party = party_of(run.proposal.context, net.directory)
        self.messages = [self._plain(entry) for entry in net.runs[run.id].entries]

    def _plain(self, entry: Envelope) -> forms_of.Message:
        plain = runs.unseal("nonces", self.run.proposal.secret, self.run.id, entry.entry_id, entry.payload)
        return steps.FORM.decode(plain)

    def hellos(self) -> list[Hello]:
        return sorted((m for m in self.messages if isinstance(m, Hello)), key=lambda m: m.sender)

    def shares(self) -> list[Shares]:
        return sorted((m for m in self.messages if isinstance(m, Shares)), key=lambda m: m.sender)

    def th(self) -> bytes:
        return steps.FORM.transcript(self.party, [(m.commitment, m.ephemeral) for m in self.hellos()])

    def key_check(self, nonces: list[bytes]) -> str:
        key = hkdf(self.th(), b"".join(nonces), labelled("nonces K"))
        return records.schedule("nonces", self.th(), key, len(nonces)).key_check


def _whole_run(suite: Nonces, seed: object) -> tuple[Net, list[Node], Reader]:
    """An agreed room of three, and a reader of its first run."""
    net, nodes = assembly(suite, 3, seed)
    (run_id,) = net.runs
    run = RUN.decode(nodes[0].items[RUN.key(run_id)])
    net.settle()
    assert {node.live.view.state for node in nodes} == {State.READY}
    return net, nodes, Reader(net, run)


class _InClearUnwrapped(InClear, NoWrap):
    """As the document has it: neither RSA nor a run's own key around a nonce."""

    variant = "original F1.1"


def test_f11_a_nonce_in_clear_gives_the_key_to_every_reader() -> None:
    _, nodes, reader = _whole_run(Nonces(_InClearUnwrapped()), "F1.1")
    nonces = [shares.wrapped[0][1][: steps.NONCE] for shares in reader.shares()]
    assert reader.key_check(nonces) == nodes[0].live.view.key_check


def test_f11_the_suite_shows_a_reader_no_nonce() -> None:
    _, nodes, reader = _whole_run(Nonces(), "F1.1")
    for start in (0, 32, 80):
        nonces = [shares.wrapped[0][1][start : start + steps.NONCE] for shares in reader.shares()]
        assert reader.key_check(nonces) != nodes[0].live.view.key_check


def test_f12_plus_one_is_an_answer_there_and_refused_here() -> None:
    _, nodes = agreed(Nonces(PlusOne()), 3, "F1.2")
    assert {node.live.view.state for node in nodes} == {State.READY}
    _, nodes = _mixed(Steps(), _same_variant(PlusOne()), seed="F1.2")
    assert _codes(nodes[:2]) == {"bad_answer"}
    assert {node.live.view.state for node in nodes[:2]} == {State.PENDING}


def test_f13_without_answers_nobody_proves_that_it_read_a_nonce() -> None:
    _, nodes, reader = _whole_run(Nonces(FewAnswers()), "F1.3")
    del nodes
    confirms = {m.sender: m for m in reader.messages if isinstance(m, Confirm)}
    assert len(confirms[0].answers) == len(confirms[2].answers) < len(confirms[1].answers), "A and C answer nobody"
    _, nodes = _mixed(Steps(), _same_variant(FewAnswers()), seed="F1.3")
    assert _codes(nodes[:2]) == {"misrouted"}


def test_f14_a_bare_hash_gives_one_key_in_two_contexts() -> None:
    nonces = (bytes([1]) * 32, bytes([2]) * 32)
    assert BareHash().combine(b"one room", nonces) == BareHash().combine(b"another room", nonces)
    assert Steps().combine(b"one room", nonces) != Steps().combine(b"another room", nonces)
    short = (b"ab", b"c"), (b"a", b"bc")
    assert BareHash().combine(b"", short[0]) == BareHash().combine(b"", short[1])
    with pytest.raises(PeerError):
        forms_of.check_opening(Steps(), bytes(32), 0, bytes(63), bytes(32))


class _LastMover(NoCommitment):
    """Draws its nonce again and again once it has seen the others', until the key suits it."""

    chosen: bytes = b""

    def encrypt(self, party: Party, i: int, j: int, payload: bytes) -> bytes:
        return super().encrypt(party, i, j, self.chosen + payload[steps.NONCE :] if self.chosen else payload)


def test_f15_without_commitments_the_last_to_speak_chooses_the_key() -> None:
    assert _forced_key(Nonces(NoCommitment()), _LastMover(), "F1.5") is True


def test_f15_with_commitments_another_nonce_is_refused() -> None:
    class Late(Steps):
        def encrypt(self, party: Party, i: int, j: int, payload: bytes) -> bytes:
            return super().encrypt(party, i, j, bytes(steps.NONCE) + payload[steps.NONCE :])

    _, nodes = _mixed(Steps(), Late(), seed="F1.5 refused")
    assert _codes(nodes[:2]) == {"commit_mismatch"}


def _forced_key(suite: Nonces, cheat: _LastMover, seed: object) -> bool:
    """The last member reads the others' shares first, and picks a nonce that makes the key's first bits zero."""
    net = Net(seed=seed)
    nodes = [net.node(suite, user, index) for index, user in enumerate(users(3))]
    nodes[2].suite = Nonces(cheat)
    nodes[0].create(ROOM, POLICY)
    nodes[0].change(*(Add(node.name) for node in nodes[1:]))
    (run_id,) = net.runs
    run = RUN.decode(nodes[0].items[RUN.key(run_id)])
    nodes[2].step()
    nodes[2].silent = lambda envelope: True
    net.settle()
    reader, party = Reader(net, run), party_of(run.proposal.context, net.directory)
    seen = []
    for shares in reader.shares():
        ephemeral = _own_ephemeral(nodes[2], run_id)
        ciphertext = Steps().unwrap(party.ctx, shares.sender, 2, ephemeral, dict(shares.wrapped)[2])
        key = keys_of(2).rsa_decrypt
        assert key is not None
        seen.append(Steps().decrypt(party, key, shares.sender, 2, ciphertext)[: steps.NONCE])
    mine = b""
    for number in range(10_000):
        mine = number.to_bytes(steps.NONCE, "big")
        if reader.key_check([*seen, mine]).startswith("00"):
            break
    cheat.chosen = mine
    _put_nonce(nodes[2], run_id, mine)
    nodes[2].silent = None
    net.settle()
    checks = {node.live.view.key_check for node in nodes}
    return len(checks) == 1 and checks.pop().startswith("00")


def _own_ephemeral(node: Node, run_id: bytes) -> DhKey:
    from cloister.protocols.contribution_items import MINE

    return DhKey(MINE.decode(node.items[MINE.key(run_id)]).ephemeral)


def _put_nonce(node: Node, run_id: bytes, nonce: bytes) -> None:
    """The cheat's own state holds the nonce it chose."""
    from cloister.protocols.contribution_items import MINE, PEER

    mine = MINE.decode(node.items[MINE.key(run_id)])
    node.items[MINE.key(run_id)] = MINE.encode(replace(mine, contribution=nonce))
    own = PEER.key(run_id + bytes([2]))
    node.items[own] = PEER.encode(replace(PEER.decode(node.items[own]), contribution=nonce))
    node.restart()


class _TwoFaced(NoCommitment):
    """Gives each peer another nonce."""

    def encrypt(self, party: Party, i: int, j: int, payload: bytes) -> bytes:
        return super().encrypt(party, i, j, bytes([j]) * steps.NONCE + payload[steps.NONCE :])


class _Unconfirmed(NoCommitment, NoConfirm):
    """Neither commitments nor confirmations."""

    variant = "original F1.6"


class _TwoFacedUnconfirmed(_TwoFaced, _Unconfirmed):
    variant = "original F1.6"


def test_f16_without_confirmation_members_hold_different_keys_and_do_not_notice() -> None:
    _, nodes = _mixed(_Unconfirmed(), _TwoFacedUnconfirmed(), seed="F1.6")
    assert nodes[0].live.view.state is State.READY, "the proposer has committed and would write"
    first, second = nodes[0].live.export("x", b"", 16), nodes[1].live.export("x", b"", 16, pending=True)
    assert first != second, "both count their key as agreed"


def test_f16_with_confirmation_the_difference_shows() -> None:
    class TwoFaced(_TwoFaced):
        variant = NoCommitment.variant

    _, nodes = _mixed(NoCommitment(), TwoFaced(), seed="F1.6 shows")
    assert _codes(nodes[:2]) <= {"confirm_mismatch", "bad_sig"}
    assert _codes(nodes[:2])
    assert {node.live.view.state for node in nodes[:2]} == {State.PENDING}


def _stolen(reader: Reader, victim: int, open_share: Callable[[Shares], bytes]) -> list[bytes]:
    """The nonces that a thief of the victim's RSA key reads out of a recorded run."""
    return [open_share(shares)[: steps.NONCE] for shares in reader.shares() if shares.sender != victim]


def test_f17_an_rsa_key_stolen_later_opens_the_document_and_not_the_suite() -> None:
    """The thief has all RSA keys of the members and the recorded run, and no ephemeral key: those are erased."""
    for suite, opens in ((Nonces(NoWrap()), True), (Nonces(), False)):
        net, nodes, reader = _whole_run(suite, ("F1.7", opens))
        nonces: dict[int, bytes] = {}
        for shares in reader.shares():
            j, wrapped = shares.wrapped[0]
            key = keys_of(j).rsa_decrypt
            assert key is not None
            for ciphertext in (wrapped, wrapped[32:], wrapped[32:-16]):
                try:
                    opened = Steps().decrypt(reader.party, key, shares.sender, j, ciphertext)
                except PeerError:
                    continue
                nonces[shares.sender] = opened[: steps.NONCE]
        assert (len(nonces) == 3) is opens
        if opens:
            found = reader.key_check([nonces[i] for i in range(3)])
            assert found == nodes[0].live.view.key_check
        assert not [key for node in nodes for key in node.items if key.startswith((b"mine/", b"peer/"))]
        del net


def test_f18_a_key_at_rest_reads_what_was_said_before_and_the_suites_store_does_not() -> None:
    for suite, reads in ((Nonces(KeyAtRest()), True), (Nonces(), False)):
        net, nodes = agreed(suite, 3, ("F1.8", reads))
        nodes[0].say(b"said before the theft")
        net.settle()
        entry = net.rooms[ROOM].entries[-1]
        (epoch,) = [EPOCH.decode(v) for k, v in nodes[1].items.items() if k.startswith(b"epoch/")]
        stolen = [value for key, value in nodes[1].items.items() if key.startswith((b"epoch/", b"recv/", b"send/"))]
        assert stolen
        # the thief takes each 32-byte secret of the copy for the key, and follows the schedule from there
        chains = records.schedule("nonces", epoch.th, epoch.exporter, 3).chains
        scope = _scope_of(suite, nodes[1], epoch.th)
        sealed = records.unwrap(scope, entry.payload, kind=entry.kind, entry_id=entry.entry_id)
        header = sealed.header
        try:
            keys = split(message_key(chains[header.sender]))
            plain = Gcm().open(keys, header.seq, sealed.ciphertext, sealed.tag, enc(header.items()))
        except PeerError:
            plain = b""
        assert (plain == b"said before the theft") is reads


def _scope_of(suite: Nonces, node: Node, th: bytes) -> records.Scope:
    from cloister.protocols.epochs import scope_of

    session = suite.restore(node.me, node.items)
    turn = session._turn(session._draft(), node.net.now, node.rng)  # type: ignore[attr-defined]
    epoch = turn.draft.get(EPOCH, th)
    assert epoch is not None
    return scope_of(turn, epoch)


def test_a_thief_of_the_suites_store_cannot_go_back_along_a_chain() -> None:
    """K4: the stored chain key is the next one; the one that opened the message before is not among its descendants."""
    net, nodes = agreed(Nonces(), 2, "K4")
    nodes[0].say(b"one")
    before = dict(nodes[1].items)
    net.settle()
    after = dict(nodes[1].items)
    (key,) = [key for key in after if key.startswith(b"recv/")]
    from cloister.protocols.ratchet import RecvChain

    old, new = RecvChain.decode(before[key]), RecvChain.decode(after[key])
    assert new.seq == old.seq + 1
    assert new.key == next_key(old.key)
    assert all(old.key not in value for value in after.values())


def test_the_document_as_a_whole_agrees_and_talks() -> None:
    net, nodes = agreed(Nonces(Document()), 3, "document")
    assert {node.live.view.state for node in nodes} == {State.READY}
    nodes[0].say(b"as published")
    net.settle()
    assert nodes[2].delivered[0].content == b"as published"


@pytest.mark.parametrize(
    "original", [InClear, PlusOne, FewAnswers, BareHash, NoCommitment, NoConfirm, NoWrap, KeyAtRest, Document]
)
def test_nobody_is_talked_into_an_original(original: type[Steps]) -> None:
    net, nodes = assembly(Nonces(original()), 3, original.__name__)
    for node in nodes[1:]:
        node.suite = Nonces()
    net.settle()
    assert _codes(nodes[1:]) == {"not_allowed"}
    net.pass_time(10 * MINUTE)
    net.settle()
    assert nodes[0].live.view.missing == tuple(node.name for node in nodes[1:])
