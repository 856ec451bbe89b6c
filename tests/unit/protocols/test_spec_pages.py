"""The pages of docs/spec say what the source does: check ids, the table of states, the property table."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

import cloister.protocols
from cloister.client.suites import SUITES
from cloister.errors import REGISTRY, InternalError, PeerError
from cloister.protocols.checks import CHECKS, check, named
from cloister.protocols.contributions.agreement import TRANSITIONS
from cloister.protocols.interface import CAPS_ROWS
from cloister.protocols.rounds.agreement import Phase
from support.need import REPOSITORY

SPEC = REPOSITORY / "docs" / "spec"
PAGES = (
    "suites.md",
    "record.md",
    "classic/contributions.md",
    "classic/nonces.md",
    "classic/shares.md",
    "classic/transport.md",
    "classic/pair.md",
    "classic/code.md",
)
ID = re.compile(r"\b(?:REC|RUN|CON|NON|SHA|TRA|PAI|COD|COM|CTX|POL)-\d\d\b")
for _module in pkgutil.iter_modules(cloister.protocols.__path__, "cloister.protocols."):
    importlib.import_module(_module.name)
OURS = {name for name in CHECKS if ID.fullmatch(name)}


def _rows(page: str) -> list[list[str]]:
    """The cells of every table row of a page."""
    text = (SPEC / page).read_text()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_every_check_stands_in_one_page_and_every_row_has_a_check() -> None:
    listed = [row[0] for page in PAGES for row in _rows(page) if ID.fullmatch(row[0])]
    assert sorted(listed) == sorted(OURS)


def test_every_check_has_a_test_that_names_it() -> None:
    found: set[str] = set()
    for folder in ("negative", "machines", "unit/protocols"):
        for path in (REPOSITORY / "tests" / folder).rglob("test_*.py"):
            found |= set(ID.findall(path.read_text()))
    assert OURS <= found


def test_every_code_of_the_tables_is_registered() -> None:
    for page in PAGES:
        for row in _rows(page):
            if ID.fullmatch(row[0]):
                code_cell = row[3] if page.startswith("classic/") else row[2]
                for code in code_cell.split(", "):
                    assert code in REGISTRY, row


def test_checks_are_functions_of_their_modules() -> None:
    """They are called through their module's globals, so that a mutant can stand in their place."""
    for function in CHECKS.values():
        module = importlib.import_module(function.__module__)
        assert getattr(module, function.__name__) is function


def test_a_check_is_entered_once() -> None:
    with pytest.raises(InternalError):
        check("NON-01")(lambda: None)


def test_a_primitives_refusal_gets_the_checks_id() -> None:
    with pytest.raises(PeerError) as error, named("XXX-01"):
        raise PeerError("bad_sig", "detail")
    assert (error.value.code, error.value.detail, error.value.check) == ("bad_sig", "detail", "XXX-01")


def test_the_table_of_states_is_the_mapping() -> None:
    rows = {row[0]: row[1:] for row in _rows("classic/contributions.md") if row[0].startswith("EXPECT_")}
    assert set(rows) == {phase.name for phase in Phase}
    for phase in Phase:
        for kind, method in zip(("hello", "shares", "confirm"), rows[phase.name], strict=True):
            assert TRANSITIONS[phase, kind].__name__ == method


@pytest.mark.parametrize("name", SUITES)
def test_the_property_table_is_the_suites_caps(name: str) -> None:
    caps = SUITES[name].caps
    assert tuple(caps.phrases) == CAPS_ROWS
    (titles,) = [row[1:] for row in _rows("suites.md") if row[1:] == list(SUITES)]
    rows = {row[0]: row[1 + titles.index(name)] for row in _rows("suites.md") if row[0] in CAPS_ROWS}
    assert rows == dict(caps.phrases)
