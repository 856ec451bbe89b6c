"""The small parts under the suites: policy, context, items, forms, chains, records, run channel."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError, UnavailableError
from cloister.primitives.aead import aes_ctr
from cloister.protocols import forms, policy, ratchet, record
from cloister.protocols.context import Context, party_of
from cloister.protocols.interface import Behind, Drop, Put, RoomPolicy, SignedHead, Who
from cloister.protocols.items import Draft, Shelf, stock_of
from cloister.protocols.ratchet import MAX_SKIP, WINDOW, RecvChain, SendChain, advance
from cloister.protocols.record import CTR_HMAC, Gcm, schedule
from cloister.protocols.rounds import run as runs
from support.suite_net import POLICY, ROOM, FakeDirectory, device_name

HEAD = SignedHead(incarnation=1, seq=2, hash=bytes(32), signature=b"s")


def refused(code: str, check: str = "") -> object:
    """A PeerError with this code (and check)."""

    class Expect:
        def __enter__(self) -> None: ...

        def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
            assert isinstance(error, PeerError), f"expected {code}, got {error!r}"
            assert (error.code, error.check) == (code, check)
            return True

    return Expect()


# --- policy ---


def test_a_policy_survives_the_wire() -> None:
    odd = RoomPolicy(title="t", owners=("a", "b"), may_add=Who.NOBODY, may_remove=Who.MEMBERS, may_rekey=Who.OWNERS)
    for item in (POLICY, odd):
        assert policy.read(Fields(policy.items(item), "policy")) == item
    assert policy.digest(odd) != policy.digest(POLICY)


@pytest.mark.parametrize(
    ("at", "value", "code"),
    [
        (0, 2, "unsupported"),
        (1, "t" * 129, "bad_encoding"),
        (2, [], "bad_encoding"),
        (2, ["b", "a"], "bad_encoding"),
        (2, ["a", "a"], "bad_encoding"),
        (2, [f"{i:02}" for i in range(33)], "bad_encoding"),
        (2, [7], "bad_encoding"),
        (3, "everybody", "bad_encoding"),
    ],
)
def test_a_policy_of_another_form_is_refused(at: int, value: object, code: str) -> None:
    items = policy.items(POLICY)
    items[at] = value
    with refused(code):
        policy.read(Fields(items, "policy"))
    with refused("bad_encoding"):
        policy.read(Fields([*policy.items(POLICY), 1], "policy"))


def test_rights() -> None:
    made = RoomPolicy(title="", owners=("o",), may_add=Who.NOBODY)
    assert not policy.permits(made, "o", policy.Right.ADD)
    assert policy.permits(made, "o", policy.Right.REMOVE)
    assert not policy.permits(made, "m", policy.Right.REMOVE)
    assert policy.permits(made, "m", policy.Right.REKEY)
    with refused("not_allowed", "POL-01"):
        policy.check_permitted(made, "m", policy.Right.SET_POLICY)


# --- context ---


def _context(directory: FakeDirectory, **changes: object) -> Context:
    roster = tuple(sorted(device_name(user) for user in "ab"))
    context = Context(
        suite="nonces",
        variant="fs=1",
        room=ROOM,
        epoch=1,
        run_id=bytes(16),
        prev_th=bytes(32),
        proposer=roster[0],
        deadline=1,
        log_size=directory.size,
        roster=roster,
        policy=POLICY,
    )
    return replace(context, **changes)  # type: ignore[arg-type]


def _directory() -> FakeDirectory:
    directory = FakeDirectory()
    directory.enrol("a", 0)
    directory.enrol("b", 1)
    directory.enrol("n", 1, rsa=False)
    return directory


def test_ctx_depends_on_every_field() -> None:
    directory = _directory()
    base = _context(directory)
    changed = {
        "suite": "shares",
        "variant": "fs=0",
        "room": bytes(16),
        "epoch": 2,
        "run_id": bytes([1]) * 16,
        "prev_th": bytes([1]) * 32,
        "proposer": device_name("b"),
        "deadline": 2,
        "log_size": 2,
        "roster": (device_name("a"),),
        "policy": replace(POLICY, title="other"),
    }
    assert set(changed) == set(base.__dataclass_fields__)
    seen = {party_of(replace(base, **{name: value}), directory).ctx for name, value in changed.items()}  # type: ignore[arg-type]
    assert len(seen | {party_of(base, directory).ctx}) == len(changed) + 1


def test_a_context_survives_the_wire() -> None:
    context = _context(_directory())
    assert Context.read(Fields(context.items(), "context")) == context


def test_members_need_both_rsa_keys() -> None:
    directory = _directory()
    with refused("not_ready", "CTX-01"):
        party_of(_context(directory, roster=(device_name("a"), device_name("n"))), directory)


def test_a_party_knows_its_members_and_nobody_else() -> None:
    party = party_of(_context(_directory()), _directory())
    assert (party.size, party.index(device_name("b"))) == (2, 1)
    with refused("unknown_sender"):
        party.index("stranger")
    bare = replace(party, records=tuple(replace(r, rsa_verify=None, rsa_encrypt=None) for r in party.records))
    with refused("not_ready"):
        bare.verify_key(0)
    with refused("not_ready"):
        bare.encrypt_key(0)


def test_a_log_size_ahead_is_behind() -> None:
    directory = _directory()
    with pytest.raises(Behind) as error:
        party_of(_context(directory, log_size=9), directory)
    assert error.value.need.ids == ((9).to_bytes(8, "big"),)


# --- items ---

NUMBER: Shelf[int] = Shelf(b"number", lambda value: enc(value), lambda data: Fields.decode(data, "n").uint("n"))
SHELVES = {NUMBER.name: NUMBER}


def test_a_draft_stores_what_differs_and_nothing_else() -> None:
    stock = stock_of({b"number/a": enc(1), b"number/b": enc(2), b"number": enc(9)}, SHELVES)
    draft = Draft(stock, SHELVES)
    assert not draft.moved
    draft.put(NUMBER, b"a", 1)
    draft.drop(NUMBER, b"nothing")
    assert not draft.moved
    draft.put(NUMBER, b"b", 3)
    draft.put(NUMBER, b"c", 4)
    draft.drop(NUMBER)
    assert dict(draft.all(NUMBER)) == {b"a": 1, b"b": 3, b"c": 4}
    assert stock[b"number"][b"b"] == 2, "a draft that is forgotten changes nothing"
    assert set(draft.apply()) == {
        Put(key=b"number/b", value=enc(3)),
        Put(key=b"number/c", value=enc(4)),
        Drop(key=b"number"),
    }
    again = Draft(stock, SHELVES)
    again.drop_all(NUMBER, b"a")
    assert [type(effect) for effect in again.apply()] == [Drop]
    assert stock == {b"number": {b"b": 3, b"c": 4}}


@pytest.mark.parametrize("items", [{b"number/a": b"\xff"}, {b"letter/a": b""}])
def test_items_that_no_shelf_reads_are_damaged(items: dict[bytes, bytes]) -> None:
    with pytest.raises(UnavailableError) as error:
        stock_of(items, SHELVES)
    assert error.value.code == "damaged"


# --- forms ---


def test_lists_and_heads() -> None:
    fields = Fields([["a", "b"], [b"x"], HEAD.items(), None], "forms")
    assert forms.texts(fields, "texts", 2) == ("a", "b")
    assert forms.octet_strings(fields, "octets", 1, 1) == (b"x",)
    assert forms.read_head(fields, "head") == HEAD
    assert forms.read_head(fields, "head") is None
    assert forms.head_items(None) is None
    for bad in ([["a", "b", "c"]], [["a" * 129]], [[1]]):
        with refused("bad_encoding"):
            forms.texts(Fields(bad, "forms"), "texts", 2)
    with refused("bad_encoding"):
        forms.read_head(Fields([[1, 2, bytes(31), b""]], "forms"), "head")


# --- chains ---


def _pair(seed: int = 0) -> tuple[SendChain, RecvChain]:
    key = random.Random(seed).randbytes(32)
    return SendChain(0, key), RecvChain(0, key)


def _keys(n: int) -> list[bytes]:
    send, _ = _pair()
    found = []
    for _ in range(n):
        keys, send = send.step()
        found.append(keys.cipher)
    return found


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(8)))
def test_in_any_order_each_number_has_its_one_key(order: list[int]) -> None:
    _, chain = _pair()
    kept: dict[int, bytes] = {}
    for seq in order:
        moved = advance(chain, seq, kept.get(seq))
        assert moved.keys.cipher == _keys(8)[seq]
        chain = RecvChain.decode(moved.chain.encode())
        kept |= dict(moved.kept)
        for number in moved.spent:
            kept.pop(number, None)
        with refused("replay", "REC-03"):
            advance(chain, seq, kept.get(seq))
    assert kept == {}


def test_a_jump_of_a_thousand_is_taken_and_one_more_is_not() -> None:
    _, chain = _pair()
    moved = advance(chain, MAX_SKIP, None)
    assert len(moved.kept) == MAX_SKIP
    with refused("gap", "REC-04"):
        advance(chain, MAX_SKIP + 1, None)


def test_kept_keys_older_than_a_thousand_go() -> None:
    _, chain = _pair()
    moved = advance(chain, 500, None)
    kept = dict(moved.kept)
    moved = advance(moved.chain, 1200, None)
    for number in moved.spent:
        kept.pop(number, None)
    assert min(kept) == 1201 - MAX_SKIP
    with refused("replay"):
        advance(moved.chain, 190, None)


def test_the_window_ends_at_1024() -> None:
    chain = RecvChain(2000, bytes(32), 0)
    assert chain.seen(2000 - 1 - WINDOW)
    assert not chain.seen(2000 - WINDOW)
    assert not chain.seen(2000)


def test_no_key_of_a_chain_leads_back() -> None:
    send, _ = _pair()
    _, later = send.step()
    assert SendChain.decode(later.encode()) == later
    assert send.key not in later.encode()
    assert ratchet.next_key(send.key) == later.key


# --- records ---


def test_a_schedule_is_one_way_and_differs_by_suite_th_and_key() -> None:
    made = schedule("nonces", bytes(32), bytes(32), 3)
    assert record.Schedule.decode(made.encode()) == made
    secrets = [*made.chains, made.confirm, made.exporter, made.resume]
    assert len(set(secrets)) == 6
    for other in (
        schedule("shares", bytes(32), bytes(32), 3),
        schedule("nonces", bytes([1]) * 32, bytes(32), 3),
        schedule("nonces", bytes(32), bytes([1]) * 32, 3),
    ):
        assert not set(secrets) & {*other.chains, other.confirm, other.exporter, other.resume}
        assert other.key_check != made.key_check
    assert len(made.key_check) == 11


def test_secrets_are_not_shown() -> None:
    made = schedule("nonces", bytes(32), bytes(32), 1)
    assert "chains" not in repr(made)
    assert "exporter" not in repr(made)
    assert "key" not in repr(SendChain(0, bytes(32))).partition("(")[2]


def test_gcm_binds_key_number_and_header() -> None:
    keys = ratchet.split(bytes(32))
    ciphertext, tag = Gcm().seal(keys, 1, b"text", b"ad")
    assert Gcm().open(keys, 1, ciphertext, tag, b"ad") == b"text"
    for number, ad, t in ((2, b"ad", tag), (1, b"da", tag), (1, b"ad", tag[:-1]), (1, b"ad", bytes(16))):
        with refused("bad_tag"):
            Gcm().open(keys, number, ciphertext, t, ad)


def test_ctr_hmac_binds_key_header_and_ciphertext() -> None:
    keys, other = ratchet.split(bytes(32)), ratchet.split(bytes([1]) * 32)
    ciphertext, tag = CTR_HMAC.seal(keys, 1, b"text" * 9, b"ad")
    assert (len(ciphertext), len(tag)) == (36, 32)
    assert CTR_HMAC.open(keys, 1, ciphertext, tag, b"ad") == b"text" * 9
    flipped = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    for key, text, t, ad in (
        (keys, flipped, tag, b"ad"),
        (keys, ciphertext[:-1], tag, b"ad"),
        (keys, ciphertext, tag, b"da"),
        (keys, ciphertext, tag[:-1], b"ad"),
        (keys, ciphertext, b"", b"ad"),
        (other, ciphertext, tag, b"ad"),
    ):
        with refused("bad_tag", "REC-10"):
            CTR_HMAC.open(key, 1, text, t, ad)


def test_ctr_hmac_counts_from_the_messages_number() -> None:
    keys = ratchet.split(bytes(32))
    seen = {CTR_HMAC.seal(keys, number, bytes(32), b"")[0] for number in (0, 1, 2**64 - 1)}
    assert len(seen) == 3
    assert CTR_HMAC.seal(keys, 5, bytes(32), b"")[0] == aes_ctr(keys.cipher, bytes(7) + b"\5" + bytes(8), bytes(32))


def test_the_exporter_separates_labels_contexts_and_lengths() -> None:
    found = {
        record.export("nonces", bytes(32), label, context, length)
        for label in ("a", "b")
        for context in (b"", b"c")
        for length in (16, 32)
    }
    assert len(found) == 8
    assert record.access_token("nonces", bytes(32), ROOM) == record.export(
        "nonces", bytes(32), "cloister relay access", ROOM, 32
    )


# --- run channel ---


def test_a_runs_entries_open_for_those_with_the_secret_at_their_place_only() -> None:
    payload = runs.seal("nonces", bytes(32), bytes(16), b"e" * 16, b"message")
    assert runs.unseal("nonces", bytes(32), bytes(16), b"e" * 16, payload) == b"message"
    for suite, secret, run_id, entry_id in (
        ("shares", bytes(32), bytes(16), b"e" * 16),
        ("nonces", bytes([1]) * 32, bytes(16), b"e" * 16),
        ("nonces", bytes(32), bytes([1]) * 16, b"e" * 16),
        ("nonces", bytes(32), bytes(16), b"f" * 16),
    ):
        with refused("bad_tag"):
            runs.unseal(suite, secret, run_id, entry_id, payload)
    assert len({runs.access_token(suite, bytes(32)) for suite in ("nonces", "shares")}) == 2


def test_an_orders_id_does_not_depend_on_its_signature() -> None:
    order = runs.Order(suite="nonces", room=ROOM, epoch=1, th=bytes(32), author="a", removed=("b",), log_size=1)
    assert replace(order, signature=b"x").id == order.id
    assert runs.Order.decode(replace(order, signature=b"x").encode()) == replace(order, signature=b"x")
