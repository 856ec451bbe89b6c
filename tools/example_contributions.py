"""The worked examples of docs/spec/classic/nonces.md and shares.md: a first run, computed by the suites' own code.

Three members; every draw is counting bytes, so the pages are the same on every machine. What RSA draws by itself
stands in as fixed bytes: an OAEP ciphertext is 384 times aa, a PSS signature 384 times bb.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from cloister.codec.cbor import enc
from cloister.primitives.dh import KEY_SIZE, DhKey
from cloister.primitives.kdf import sha256
from cloister.primitives.labelled import hash_of, mac
from cloister.primitives.rsa import SIZE
from cloister.protocols import policy as policies
from cloister.protocols import record as records
from cloister.protocols.context import VERSION, Context, Party
from cloister.protocols.contributions import steps as forms
from cloister.protocols.contributions.steps import CONTRIBUTION, OPENING, Confirm, Hello, Message, Shares
from cloister.protocols.interface import RoomPolicy
from cloister.protocols.nonces import steps as nonces_steps
from cloister.protocols.ratchet import SendChain
from cloister.protocols.rounds.commits import CommitEntry
from cloister.protocols.rounds.run import NO_TH, Proposal, RunChange
from cloister.protocols.shares import suite as shares
from tools.example_transport import StandIn, counting, shown

_NOW: Final = 1_790_000_000_000
_DAY: Final = 86_400_000
_NAMES: Final = tuple(f"cloister://home/u/{name}/d/phone" for name in ("alice", "bob", "carol"))
_CIPHERTEXT: Final = b"\xaa" * SIZE
_TEXT: Final = b"hello"


class _Run:
    """One run of a suite: who says what, and what follows."""

    def __init__(self, steps: Any) -> None:
        self.steps, self.form = steps, steps.form
        self.context = _context(steps)
        self.ctx = _ctx(self.context)
        self.parts = [counting(0x40 * i, CONTRIBUTION) for i in range(1, 4)]
        self.openings = [counting(0x40 * i + 0x20, OPENING) for i in range(1, 4)]
        self.keys = [DhKey(counting(0x11 * i, KEY_SIZE)) for i in range(1, 4)]
        self.hellos = [
            Hello(
                sender=i,
                commitment=steps.commitment(self.ctx, i, self.parts[i], self.openings[i]),
                ephemeral=self.keys[i].public,
            )
            for i in range(3)
        ]
        self.th = self.form.transcript(
            Party(self.context, (), self.ctx), [(h.commitment, h.ephemeral) for h in self.hellos]
        )
        self.key = steps.combine(self.th, tuple(self.parts))
        self.agreed = steps.split(self.th, self.key, 3)

    def signed(self, message: Message) -> bytes:
        """The message's bytes, with what stands in for its signature."""
        return forms.encode(replace(message, signature=StandIn().sign(b"")))

    def shares(self, i: int) -> Shares:
        """M2 of member i; the key around each ciphertext is drawn as counting bytes, too."""
        others = [j for j in range(3) if j != i]
        return Shares(sender=i, wrapped=tuple((j, self._wrapped(i, j)) for j in others))

    def _wrapped(self, i: int, j: int) -> bytes:
        drawn = DhKey(counting(0x10 * (3 * i + j + 1), KEY_SIZE))
        wrapped: bytes = self.steps.wrap(self.ctx, i, j, drawn, self.keys[j].public, _CIPHERTEXT)
        return wrapped

    def confirm(self, i: int) -> Confirm:
        """M3 of member i."""
        answers = _answers(self, i)
        return Confirm(sender=i, answers=answers, mac=self.form.confirm_mac(self.agreed.confirm, self.th, i, answers))


def _answers(run: _Run, i: int) -> bytes | None:
    if not isinstance(run.steps, nonces_steps.Steps):
        return None
    answers = [(j, run.steps.answer(run.parts[j])) for j in run.steps.answers_to(i, 3)]
    return nonces_steps.seal_answers(run.agreed.confirm, run.th, i, answers)


def _context(steps: Any) -> Context:
    return Context(
        suite=steps.form.suite,
        variant=steps.variant,
        room=counting(0x00, 16),
        epoch=1,
        run_id=counting(0x10, 16),
        prev_th=NO_TH,
        proposer=_NAMES[0],
        deadline=_NOW + _DAY,
        log_size=7,
        roster=_NAMES,
        policy=RoomPolicy(title="garden", owners=("alice",)),
    )


def _ctx(context: Context) -> bytes:
    """As `party_of` makes it, of members whose records are hashes of their names."""
    rows = [[n, sha256(b"certificates of " + n.encode()), sha256(b"manifest of " + n.encode())] for n in context.roster]
    head: Sequence[object] = (context.suite, VERSION, context.variant, context.room, context.epoch, context.run_id)
    rest = (context.prev_th, context.proposer, context.deadline, context.log_size, rows)
    return hash_of("ctx", *head, *rest, policies.digest(context.policy))


def _record(run: _Run) -> list[tuple[str, bytes]]:
    """The first message of A, and the entry of the room's log that it travels in."""
    room, entry_id, suite = run.context.room, counting(0x60, 16), run.form.suite
    scope = records.Scope(
        suite=suite, room=room, th=run.th, members=3, exporter=run.agreed.exporter, cipher=run.steps.cipher
    )
    chain = SendChain(0, run.agreed.chains[0])
    keys, _ = chain.step()
    entry, _ = records.seal(scope, 0, chain, StandIn(), _TEXT, kind="application", entry_id=entry_id, head=None)
    opened = records.unwrap(scope, entry, kind="application", entry_id=entry_id)
    return [
        ("ck of A", chain.key),
        ("ke", keys.cipher),
        ("km", keys.mac),
        ("enc(hdr)", enc(opened.header.items())),
        ("ct of `hello`", opened.ciphertext),
        ("tag", opened.tag),
        ("record", records.open_envelope(scope, entry, "application", entry_id)),
    ]


def _example(steps: Any, named: str) -> str:
    run = _Run(steps)
    secret, head = counting(0x70, 32), sha256(b"the entry by which all confirms stood")
    change = RunChange(added=_NAMES[1:])
    rows: list[tuple[str, bytes]] = [("ctx", run.ctx)]
    rows += [("M0", Proposal(context=run.context, change=change, secret=secret).signed(run.ctx, StandIn()).encode())]
    for letter, part, opening in zip("ABC", run.parts, run.openings, strict=True):
        rows += [(f"{named} of {letter}", part), (f"r of {letter}", opening)]
    rows += [(f"M1 of {letter}", run.signed(hello)) for letter, hello in zip("ABC", run.hellos, strict=True)]
    rows += [(f"M2 of {letter}", run.signed(run.shares(i))) for i, letter in enumerate("ABC")]
    rows += [("th", run.th)]
    if isinstance(steps, shares.Steps):
        rows += [("K_xor", shares.xor(tuple(run.parts)))]
    rows += [("K", run.key), ("kc", run.agreed.confirm)]
    rows += [(f"M3 of {letter}", run.signed(run.confirm(i))) for i, letter in enumerate("ABC")]
    tag = mac(run.agreed.confirm, f"{run.form.suite} commit entry", run.th)
    rows += [("M4", CommitEntry(run.context.run_id, run.th, sha256(head), tag).encode())]
    rows += [("access token", records.access_token(run.form.suite, run.agreed.exporter, run.context.room))]
    rows += _record(run)
    lines = [f"{'A, B, C':<16} {', '.join(_NAMES)}"]
    for name, value in rows:
        first, *rest = shown(value)
        lines += [f"{name:<16} {first}", *rest]
    return "\n".join(["```", *lines, f"{'key check':<16} {run.agreed.key_check}", "```", ""])


def nonces_example() -> str:
    """The lines of the example of suite `nonces`."""
    return _example(nonces_steps.Steps(), "N")


def shares_example() -> str:
    """The lines of the example of suite `shares`."""
    return _example(shares.Steps(), "s")
