"""Suites `nonces` and `shares`, a run's messages: each check is reached by a member that signs what it alters.

Every refusal names code and check, and leaves the state as it was (a fatal one ends the run and nothing else).
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloister.primitives.dh import DhKey
from cloister.protocols.contributions.agreement import TRANSITIONS
from cloister.protocols.contributions.steps import Confirm, Hello, Message, Shares
from cloister.protocols.interface import EntryKind, Envelope, EpochChanged, Fault, State
from cloister.protocols.nonces import steps
from cloister.protocols.nonces.steps import Steps
from cloister.protocols.nonces.suite import Nonces
from cloister.protocols.rounds.agreement import Phase
from support.insider import KINDS, SUITES, Bench, bench
from support.suite_net import NOW, Node, agreed, assembly, keys_of, refusal, seeded

SMALL_ORDER = bytes(32)


@pytest.fixture(params=SUITES)
def case(request: pytest.FixtureRequest) -> Bench:
    """A run of each suite."""
    return bench(suite=request.param)


# --- M1 ---


def test_a_sender_without_a_place_in_the_roster_is_refused(case: Bench) -> None:  # CON-01
    stranger = case.unsigned(2, "hello", lambda m: replace(m, sender=3))
    refusal(case.session("hello"), stranger, code="unknown_sender", check="CON-01")


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_signed_by_another_member_is_refused(case: Bench, kind: str) -> None:  # CON-02
    posed = case.forged(2, kind, lambda m: m, by=0)
    refusal(case.session(kind), posed, code="bad_sig", check="CON-02")


def test_an_altered_commitment_with_the_old_signature_is_refused(case: Bench) -> None:  # CON-02
    altered = case.unsigned(2, "hello", lambda m: replace(m, commitment=bytes(32)))
    refusal(case.session("hello"), altered, code="bad_sig", check="CON-02")


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_other_message_of_one_kind_is_a_conflict_with_evidence(case: Bench, kind: str) -> None:  # CON-03
    session = case.session(kind)
    session.receive(case.messages[2, kind], NOW, seeded(1))
    second = case.forged(2, kind, _changed)
    fault = refusal(session, second, code="conflict", check="CON-03")
    assert fault.peer == case.nodes[2].name
    assert not fault.fatal, "the first counts, the run goes on"
    assert case.form.decode(fault.evidence) != case.message(2, kind)


def _changed(message: Message) -> Message:
    match message:
        case Hello():
            return replace(message, commitment=bytes(32))
        case Shares():
            return replace(message, wrapped=tuple((j, bytes(448)) for j, _ in message.wrapped))
        case Confirm():
            return replace(message, mac=bytes(32))


def test_the_same_message_twice_is_nothing(case: Bench) -> None:
    for kind in KINDS:
        session = case.session(kind)
        session.receive(case.messages[2, kind], NOW, seeded(1))
        again = case.sealed(case.plain(2, kind), case.messages[2, kind])
        assert not [effect for effect in session.receive(again, NOW, seeded(1)) if isinstance(effect, Fault)]


def test_a_copied_commitment_is_refused_and_ends_the_run(case: Bench) -> None:  # CON-04
    session = case.session("hello")
    session.receive(case.messages[0, "hello"], NOW, seeded(1))
    original = case.message(0, "hello")
    assert isinstance(original, Hello)
    copied = case.forged(2, "hello", lambda m: replace(m, commitment=original.commitment))
    fault = refusal(session, copied, code="commit_copied", check="CON-04")
    assert fault.fatal
    assert fault.peer == case.nodes[2].name


def test_a_copy_of_the_own_commitment_is_refused(case: Bench) -> None:  # CON-04
    own = case.message(case.victim, "hello")
    assert isinstance(own, Hello)
    copied = case.forged(2, "hello", lambda m: replace(m, commitment=own.commitment))
    assert refusal(case.session("hello"), copied, code="commit_copied", check="CON-04").fatal


def test_an_ephemeral_key_of_small_order_is_refused(case: Bench) -> None:  # CON-05
    small = case.forged(2, "hello", lambda m: replace(m, ephemeral=SMALL_ORDER))
    assert refusal(case.session("hello"), small, code="zero_key", check="CON-05").fatal


# --- M2 ---


@pytest.mark.parametrize(
    "places",
    [(), (0,), (1,), (1, 0), (0, 0, 1), (0, 1, 2)],
    ids=["none", "not me", "not all", "order", "twice", "self"],
)
def test_shares_that_do_not_serve_every_other_member_once_are_refused(
    case: Bench, places: tuple[int, ...]
) -> None:  # CON-06

    def served(message: Shares) -> Shares:
        wrapped = message.wrapped[0][1]
        return replace(message, wrapped=tuple((j, wrapped) for j in places))

    assert refusal(case.session("shares"), case.forged(2, "shares", served), code="misrouted", check="CON-06").fatal


def _with_share(case_victim: int, wrapped: bytes) -> object:
    return lambda m: replace(m, wrapped=tuple((j, wrapped if j == case_victim else w) for j, w in m.wrapped))


@pytest.mark.parametrize("wrapped", [b"", bytes(31), bytes([9]) * 40, bytes([9]) * 448])
def test_a_share_that_does_not_open_is_refused(case: Bench, wrapped: bytes) -> None:
    broken = case.forged(2, "shares", _with_share(case.victim, wrapped))  # type: ignore[arg-type]
    fault = refusal(case.session("shares"), broken, code="bad_share")
    assert fault.fatal
    assert fault.peer == case.nodes[2].name


def test_a_share_under_a_key_of_small_order_is_refused(case: Bench) -> None:
    broken = case.forged(2, "shares", _with_share(case.victim, SMALL_ORDER + bytes(400)))  # type: ignore[arg-type]
    assert refusal(case.session("shares"), broken, code="zero_key").fatal


def _share(case: Bench, sender: int, payload: bytes, *, i: int | None = None) -> bytes:
    """A well-made share for the victim with this payload, as if from place i."""
    step = case.suite.agreement.steps
    place = sender if i is None else i
    hello = case.message(case.victim, "hello")
    assert isinstance(hello, Hello)
    ciphertext = step.encrypt(case.party, place, case.victim, payload)
    ephemeral = DhKey.generate(seeded("share"))
    return step.wrap(case.party.ctx, place, case.victim, ephemeral, hello.ephemeral, ciphertext)


@pytest.mark.parametrize("payload", [bytes(64), bytes(63), bytes(65), b""])
def test_a_nonce_that_was_not_committed_to_is_refused(case: Bench, payload: bytes) -> None:  # CON-07
    other = case.forged(2, "shares", _with_share(case.victim, _share(case, 2, payload)))  # type: ignore[arg-type]
    fault = refusal(case.session("shares"), other, code="commit_mismatch", check="CON-07")
    assert fault.fatal
    assert fault.peer == case.nodes[2].name


def test_a_share_made_for_another_place_is_refused(case: Bench) -> None:
    other = case.forged(2, "shares", _with_share(case.victim, _share(case, 2, bytes(64), i=0)))  # type: ignore[arg-type]
    refusal(case.session("shares"), other, code="bad_share")


# --- M3 ---


def test_a_confirm_of_one_who_holds_another_key_is_refused(case: Bench) -> None:  # CON-08
    other = case.forged(2, "confirm", lambda m: replace(m, mac=bytes(32)))
    fault = refusal(case.session("confirm"), other, code="confirm_mismatch", check="CON-08")
    assert fault.fatal
    assert fault.peer == case.nodes[2].name


def _confirm(answers: list[tuple[int, bytes]] | bytes) -> Envelope:
    """Member 2's confirm with these answers, right in everything else."""
    case = bench()
    kc, th = case.agreed.confirm, case.agreed.th
    sealed = answers if isinstance(answers, bytes) else steps.seal_answers(kc, th, 2, answers)
    mac = steps.FORM.confirm_mac(kc, th, 2, sealed)
    return case.forged(2, "confirm", lambda m: replace(m, answers=sealed, mac=mac))


def _true_answers() -> dict[int, bytes]:
    case = bench()
    message = case.message(2, "confirm")
    assert isinstance(message, Confirm)
    return dict(steps.open_answers(case.agreed.confirm, case.agreed.th, 2, message.answers))


def test_answers_that_do_not_open_are_refused() -> None:
    case = bench()
    assert refusal(case.session("confirm"), _confirm(bytes(40)), code="bad_answer").fatal


def test_answers_that_leave_somebody_out_are_refused() -> None:  # CON-06
    case = bench()
    kept = [(j, answer) for j, answer in _true_answers().items() if j == case.victim]
    assert refusal(case.session("confirm"), _confirm(kept), code="misrouted", check="CON-06").fatal


def test_plus_one_instead_of_minus_one_is_refused() -> None:  # NON-01
    case = bench()
    plus = [(j, _shift(answer, 2)) for j, answer in _true_answers().items()]
    fault = refusal(case.session("confirm"), _confirm(plus), code="bad_answer", check="NON-01")
    assert fault.fatal
    assert fault.peer == case.nodes[2].name


def test_a_wrong_answer_to_another_member_is_refused_by_all() -> None:  # NON-01
    case = bench()
    wrong = [(j, answer if j == case.victim else _shift(answer, 2)) for j, answer in _true_answers().items()]
    assert refusal(case.session("confirm"), _confirm(wrong), code="bad_answer", check="NON-01").fatal


def _shift(answer: bytes, by: int) -> bytes:
    return ((int.from_bytes(answer, "big") + by) % 2**256).to_bytes(32, "big")


def test_the_answer_to_nonce_zero_wraps_around() -> None:
    assert Steps().answer(bytes(32)) == b"\xff" * 32


def _is_fault(effect: object) -> bool:
    return isinstance(effect, Fault)


# --- forms, phases, copies ---


def test_an_unknown_handshake_message_is_refused(case: Bench) -> None:
    from cloister.codec.cbor import enc

    odd = case.sealed(enc("goodbye", 2), case.messages[2, "hello"])
    refusal(case.session("hello"), odd, code="unsupported")


def test_a_message_outside_the_runs_seal_is_refused(case: Bench) -> None:
    entry = case.messages[2, "hello"]
    refusal(case.session("hello"), replace(entry, entry_id=bytes(16)), code="bad_tag")
    refusal(case.session("hello"), replace(entry, payload=entry.payload[:10]), code="bad_tag")


def test_an_entry_of_an_unknown_run_is_refused(case: Bench) -> None:
    entry = case.messages[2, "hello"]
    refusal(case.session("hello"), replace(entry, channel=replace(entry.channel, id=bytes(16))), code="misrouted")


def test_an_entry_of_a_kind_that_no_channel_has_is_refused(case: Bench) -> None:
    refusal(case.session("hello"), replace(case.messages[2, "hello"], kind=EntryKind.APPLICATION), code="unsupported")


@pytest.mark.parametrize("kind", ["shares", "confirm"])
def test_of_early_messages_one_of_each_kind_and_member_is_kept(case: Bench, kind: str) -> None:
    session = case.session("hello")
    for each in ("shares", "confirm"):
        assert not [effect for effect in session.receive(case.messages[2, each], NOW, seeded(1)) if _is_fault(effect)]
    refusal(session, case.sealed(case.plain(2, kind), case.messages[2, kind]), code="quota")


def test_early_shares_in_anothers_name_are_not_kept(case: Bench) -> None:
    """Or whoever holds the run's secret could fill the places of the others."""
    session = case.session("hello")
    refusal(session, case.forged(2, "shares", lambda m: m, by=0), code="bad_sig", check="CON-02")


def test_early_junk_is_reported_when_its_turn_comes_and_ends_nothing(case: Bench) -> None:
    session = case.session("hello")
    session.receive(case.unsigned(2, "confirm", _changed), NOW, seeded(1))
    for sender, kind in ((0, "hello"), (2, "hello"), (2, "shares")):
        effects = session.receive(case.messages[sender, kind], NOW, seeded(1))
        assert not [effect for effect in effects if _is_fault(effect)]
    effects = session.receive(case.messages[0, "shares"], NOW, seeded(1))
    assert [effect.code for effect in effects if isinstance(effect, Fault)] == ["bad_sig"]
    session.receive(case.messages[2, "confirm"], NOW, seeded(1))
    assert session.view.missing == (case.nodes[0].name,)


def test_an_early_message_that_breaks_a_rule_ends_the_run(case: Bench) -> None:
    session = case.session("hello")
    session.receive(case.forged(2, "shares", _with_share(case.victim, bytes([9]) * 448)), NOW, seeded(1))  # type: ignore[arg-type]
    session.receive(case.messages[0, "hello"], NOW, seeded(1))
    assert refusal(session, case.messages[2, "hello"], code="bad_share").fatal


def test_another_message_in_the_own_name_is_a_conflict(case: Bench) -> None:
    copy = case.forged(case.victim, "hello", lambda m: replace(m, commitment=bytes(32)))
    fault = refusal(case.session("hello"), copy, code="conflict")
    assert fault.detail == "a copy of this device takes part in the run"


def test_an_unsigned_message_in_the_own_name_is_a_bad_signature(case: Bench) -> None:
    junk = case.unsigned(case.victim, "hello", lambda m: replace(m, commitment=bytes(32)))
    refusal(case.session("hello"), junk, code="bad_sig", check="CON-02")


def test_a_fatal_fault_leaves_the_old_epoch_usable() -> None:
    net, nodes = agreed(Nonces(), 3, "old epoch")
    from cloister.protocols.interface import Rekey

    old = nodes[1].live.view.key_check
    nodes[0].change(Rekey())
    nodes[2].live._agreement = Nonces(_Liar()).agreement  # type: ignore[attr-defined]
    net.settle()
    assert {fault.code for fault in nodes[1].faults} == {"bad_answer"}
    assert nodes[1].live.view.key_check == old
    assert nodes[1].live.view.state is State.READY
    nodes[1].say(b"still here")
    net.settle()
    assert nodes[0].delivered[-1].content == b"still here"


class _Liar(Steps):
    """Says +1, otherwise like everybody."""

    def answer(self, nonce: bytes) -> bytes:
        return _shift(nonce, 1)


def test_a_run_that_is_not_finished_blocks_nobody() -> None:
    from cloister.protocols.interface import Rekey

    net, nodes = agreed(Nonces(), 3, "unfinished")
    _go_away(nodes[2])
    nodes[0].change(Rekey())
    net.settle()
    view = nodes[0].live.view
    assert view.state is State.READY
    assert view.missing == (nodes[2].name,)
    nodes[0].say(b"one")
    nodes[1].say(b"two")
    net.settle()
    assert [d.content for d in nodes[1].delivered] == [b"one"]
    net.pass_time(25 * 60 * 60 * 1000)
    net.settle()
    assert [fault.code for fault in nodes[0].faults] == ["timeout"]
    assert nodes[2].name in nodes[0].faults[0].detail
    assert nodes[0].live.view.missing == ()
    assert nodes[0].live.view.epoch == 1


def _go_away(node: Node) -> None:
    node.silent = lambda envelope: True


def test_cross_variant_a_run_of_another_variant_is_refused() -> None:
    from cloister.lab.originals.nonces import NoWrap

    net, nodes = assembly(Nonces(NoWrap()), 3, "variant")
    nodes[1].suite = Nonces()
    net.settle()
    assert [fault.code for fault in nodes[1].faults] == ["not_allowed"]
    assert nodes[1].session is None


def test_the_table_of_states_is_complete() -> None:
    assert set(TRANSITIONS) == {(phase, kind) for phase in Phase for kind in KINDS}


def test_confirm_before_the_key_cannot_be_judged(case: Bench) -> None:
    """The keys to verify a confirm come with the shares: it is kept, not believed."""
    session = case.session("shares")
    effects = session.receive(case.messages[2, "confirm"], NOW, seeded(1))
    assert not [effect for effect in effects if isinstance(effect, (Fault, EpochChanged))]
    assert session.view.missing == (case.nodes[0].name, case.nodes[2].name)


def test_keys_for_signing_and_for_encryption_are_two() -> None:
    """K1: no key does both."""
    keys = keys_of(0)
    assert keys.rsa_sign is not None
    assert keys.rsa_decrypt is not None
    assert keys.rsa_sign.spki != keys.rsa_decrypt.spki
