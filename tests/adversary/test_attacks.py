"""Fix x attack: every fix of the documents answers an attack that works without it, or a test shows what it changed."""

from __future__ import annotations

import importlib
import json
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cloister.client.suites import SUITES
from cloister.errors import PeerError, UsageError
from cloister.lab.attacks import REFUSED, SUCCEEDS, Attack, Row, attacks, judge, lost
from cloister.lab.attacks import __main__ as command
from cloister.lab.originals import nonces as originals
from cloister.lab.originals import taken_back
from cloister.testing.sessions import agreed
from support.need import REPOSITORY

CLASSIC = REPOSITORY / "docs" / "spec" / "classic"
FIX = re.compile(r"\bF\d\.\d+\b")
FIXES_OF = {"nonces": 8, "shares": 9, "transport": 10, "pair": 7, "code": 7}
"""How many fixes each document got: F1.1 to F1.8, F2.1 to F2.9, and so on."""
PLACES = (
    ("cloister.lab.attacks.nonces:ATTACKS", "cloister.lab.originals.nonces:FIXES"),
    ("cloister.lab.attacks.shares:ATTACKS", "cloister.lab.originals.shares:FIXES"),
    ("cloister.lab.attacks.transport:ATTACKS", "cloister.lab.originals.transport:FIXES"),
    ("cloister.lab.attacks.pair:ATTACKS", "cloister.lab.originals.pair:FIXES"),
    ("cloister.lab.attacks.code:ATTACKS", "cloister.lab.originals.code:FIXES"),
)
"""Where a suite's attacks and originals stand."""
BY_A_TEST = {"F1.8", "F2.5", "F2.6", "F3.5", "F3.10", "F4.6", "F4.7", "F5.7"}
"""Fixes of files, formats and defaults."""
BUILT = [suite for suite in FIXES_OF if suite in SUITES]
NAMED = {
    "nonces": ("read the nonces", "+1 answer", "last mover", "two-time pad after restore"),
    "shares": ("last mover", "copied commitment"),
    "transport": (
        "forged sequence number",
        "replay after message 10",
        "future timestamp",
        "re-signed ciphertext",
        "two keys from one inviter",
    ),
    "pair": ("swapped public key", "unknown key share", "forged terminate"),
    "code": ("relay in the middle", "wrong code", "SAS grinding", "small-subgroup element", "reflection"),
}
"""What the issue asks for by name."""


def catalogue() -> dict[str, str]:
    """Fix id -> the test that shows it."""
    text = (REPOSITORY / "tests" / "adversary" / "catalogue.toml").read_text()
    fixes: dict[str, str] = tomllib.loads(text)["fixes"]
    return fixes


def fixes_of(suite: str) -> set[str]:
    number = list(FIXES_OF).index(suite) + 1
    return {f"F{number}.{i}" for i in range(1, FIXES_OF[suite] + 1)}


@cache
def judged(attack: Attack) -> Row:
    """What happened, tried once in a run of the tests."""
    return judge(attack)


@pytest.mark.parametrize("attack", attacks(), ids=lambda attack: f"{attack.suite}-{attack.fix}-{attack.name}")
def test_an_attack_works_without_its_fix_and_only_without_it(attack: Attack) -> None:
    row = judged(attack)
    assert (row.original, row.fixed, row.alone) == (SUCCEEDS, REFUSED, REFUSED), row


@pytest.mark.parametrize("attack", attacks(), ids=lambda attack: f"{attack.suite}-{attack.fix}-{attack.name}")
def test_the_table_says_what_happened(attack: Attack) -> None:
    page = (CLASSIC / "README.md").read_text()
    assert command.table_row(judged(attack)) in page, "run: make attacks"


@pytest.mark.parametrize("suite", BUILT)
def test_every_fix_has_an_attack_or_for_files_and_formats_a_test(suite: str) -> None:
    attacked = {attack.fix for attack in attacks([suite])}
    tested = {fix for fix in catalogue() if fix in fixes_of(suite)}
    assert fixes_of(suite) - attacked - tested == set()
    assert tested <= BY_A_TEST, "a step of the protocol needs an attack"
    assert {fix for fix in attacked if FIX.fullmatch(fix)} <= fixes_of(suite)


@pytest.mark.parametrize("suite", BUILT)
def test_every_fix_stands_on_its_suites_page(suite: str) -> None:
    page = (CLASSIC / f"{suite}.md").read_text()
    assert fixes_of(suite) <= set(re.findall(r"\*\*(F\d\.\d+)\*\*", page))


@pytest.mark.parametrize("suite", BUILT)
def test_every_attack_that_was_asked_for_is_there(suite: str) -> None:
    names = [attack.name for attack in attacks([suite])]
    assert [words for words in NAMED[suite] if not any(words in name for name in names)] == []


@pytest.mark.parametrize(("attacking", "taking_back"), PLACES)
def test_an_original_takes_back_each_fix_that_is_attacked(attacking: str, taking_back: str) -> None:
    made, fixes = _named(attacking), _named(taking_back)
    assert made
    assert {attack.fix for attack in made} <= set(fixes)


@pytest.mark.parametrize("suite", BUILT)
def test_no_two_fixes_change_the_same_step(suite: str) -> None:
    fixes = importlib.import_module(f"cloister.lab.originals.{suite}").FIXES
    names = [name for override in fixes.values() for name in vars(override) if not name.startswith("_")]
    steps = [name for name in names if name not in ("variant", "variants")]
    assert len(steps) == len(set(steps)) >= len(fixes)


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def test_no_two_attacks_bear_the_same_name() -> None:
    names = [(attack.suite, attack.name) for attack in attacks()]
    assert len(names) == len(set(names))


# --- the runner ---------------------------------------------------------------------------------------------


def test_a_fix_that_is_none_is_refused() -> None:
    with pytest.raises(LookupError, match="F9"):
        taken_back(object, {}, frozenset({"F9"}))
    with pytest.raises(LookupError, match=r"F1\.9"):
        originals.original(frozenset({"F1.9"}))


def test_an_attack_that_fails_on_the_original_does_not_hold() -> None:
    for attempt in (lambda subject: False, lambda subject: True):
        assert not judge(Attack("nonces", "none", "F1.1", attempt)).holds


def test_a_refusal_is_told_with_its_code_and_check() -> None:
    def refused(subject: object) -> bool:
        raise PeerError("bad_sig", check="NON-02")

    def not_possible(subject: object) -> bool:
        raise UsageError("not_ready")

    assert judge(Attack("nonces", "none", "F1.1", refused)).by == "bad_sig NON-02"
    assert judge(Attack("nonces", "none", "F1.1", not_possible)).by == "not_ready"


def test_an_error_of_the_attack_itself_is_no_refusal() -> None:
    def broken(subject: object) -> bool:
        raise LookupError

    with pytest.raises(LookupError):
        judge(Attack("nonces", "none", "F1.1", broken))


def test_what_nobody_refused_is_merely_lost() -> None:
    _, nodes = agreed(originals.product(), 2)
    assert lost(nodes) is False


def test_the_command_writes_rows_and_says_when_one_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = Row(
        suite="s",
        attack="a",
        fix="F1.1",
        original=SUCCEEDS,
        fixed=REFUSED,
        alone=REFUSED,
        without=SUCCEEDS,
        by="bad_sig",
    )
    wrong = Row(
        suite="s", attack="b", fix="F1.2", original=SUCCEEDS, fixed=SUCCEEDS, alone=REFUSED, without=SUCCEEDS, by=""
    )
    monkeypatch.setattr(command, "attacks", lambda suites: [good, wrong])
    monkeypatch.setattr(command, "judge", lambda row: row)
    page, rows = tmp_path / "page.md", tmp_path / "rows.json"
    page.write_text(f"before\n{command.BEGIN}\nold\n{command.END}\nafter\n")
    assert command.main(["--json", str(rows), "--page", str(page)]) == 1
    assert json.loads(rows.read_text())[0] == {
        "suite": "s",
        "attack": "a",
        "fix": "F1.1",
        "original": "succeeds",
        "fixed": "refused",
        "alone": "refused",
        "without": "succeeds",
        "by": "bad_sig",
    }
    assert "2 attacks, 1 not as they must be" in capsys.readouterr().out
    text = page.read_text()
    assert command.table_row(good) in text
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    page.write_text("no marks")
    with pytest.raises(ValueError, match="no table"):
        command.main(["--page", str(page)])
