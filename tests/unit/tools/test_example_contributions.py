"""The worked examples of nonces.md and shares.md are messages that the suites themselves read."""

from __future__ import annotations

import re

import pytest
from tools import example_contributions as examples
from tools.example_contributions import _Run

from cloister.primitives.rsa import SIZE
from cloister.protocols.contributions import steps as forms
from cloister.protocols.nonces import steps as nonces_steps
from cloister.protocols.shares import suite as shares


def values(text: str) -> dict[str, bytes]:
    """Name -> bytes of a page's example."""
    text = re.sub(r"\[(aa|bb) x 384\]", lambda found: found[1] * SIZE, text)
    text = re.sub(r"\(\d+ bytes\)\n    ", "", text).replace("\n    ", "")
    rows = (re.split(r" {2,}|(?<=`) ", line, maxsplit=1) for line in text.splitlines())
    return {row[0]: bytes.fromhex(row[1]) for row in rows if len(row) == 2 and re.fullmatch("[0-9a-f]+", row[1])}


@pytest.mark.parametrize(
    ("example", "steps"),
    [(examples.nonces_example, nonces_steps.Steps()), (examples.shares_example, shares.Steps())],
    ids=["nonces", "shares"],
)
def test_every_message_of_an_example_is_one_of_its_suite(example: object, steps: forms.Steps) -> None:
    found, form = values(example()), steps.form  # type: ignore[operator]
    for letter, i in zip("ABC", range(3), strict=True):
        part = found[f"{'N' if form.suite == 'nonces' else 's'} of {letter}"]
        hello, given, confirm = (form.decode(found[f"{kind} of {letter}"]) for kind in ("M1", "M2", "M3"))
        assert {hello.sender, given.sender, confirm.sender} == {i}
        assert isinstance(hello, forms.Hello)
        assert isinstance(confirm, forms.Confirm)
        forms.check_opening(steps, found["ctx"], i, part + found[f"r of {letter}"], hello.commitment)
        forms.check_confirm_mac(form, found["kc"], found["th"], confirm)
        assert (confirm.answers is not None) is form.answered
    parts = tuple(found[f"{'N' if form.suite == 'nonces' else 's'} of {letter}"] for letter in "ABC")
    assert steps.combine(found["th"], parts) == found["K"]


def test_a_share_of_the_example_opens_with_its_members_key() -> None:
    run = _Run(shares.Steps())
    given = run.shares(0)
    opened = run.steps.unwrap(run.ctx, 0, 2, run.keys[2], dict(given.wrapped)[2])
    assert opened == b"\xaa" * SIZE
