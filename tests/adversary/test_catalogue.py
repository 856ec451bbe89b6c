"""The catalogue of adversaries says what the tests show: each case names tests that exist and what refuses."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from typing import Any

import pytest
from tools import mutants

from cloister.errors import REGISTRY
from support.need import REPOSITORY

CATALOGUE = tomllib.loads((REPOSITORY / "tests" / "adversary" / "catalogue.toml").read_text())
CASES: list[dict[str, Any]] = CATALOGUE["case"]
DEMANDED = {"B10", "B11", "C6", "C8", "E1", "E3", "E4", "E6", "E8", "G6", "G7"}
"""What the suites must show: labels, downgrade, forgery, bias, and E and G where they are about keys and codes."""
LOGIN = re.compile(r"LOGIN-0\d")


@cache
def defined_in(place: str) -> frozenset[str]:
    """The tests that a file defines."""
    tree = ast.parse((REPOSITORY / place).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@cache
def checks() -> frozenset[str]:
    """Every check of the source that bears an id."""
    return frozenset(mutants.discover())


def named() -> list[str]:
    """Every test that the catalogue names."""
    return sorted({test for case in CASES for test in case["tests"]} | set(CATALOGUE["fixes"].values()))


@pytest.mark.parametrize("test", named())
def test_a_test_that_is_named_exists(test: str) -> None:
    place, _, name = test.partition("::")
    assert name in defined_in(place)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_case_says_what_refuses_and_its_tests_look_for_it(case: dict[str, Any]) -> None:
    assert re.fullmatch(r"[A-H]\d{1,2}", case["id"])
    assert case["statement"].endswith(".")
    assert case["tests"]
    assert ("refused_by" in case) != ("instead" in case)
    text = "".join((REPOSITORY / test.partition("::")[0]).read_text() for test in case["tests"])
    for reason in case.get("refused_by", ()):
        assert reason in REGISTRY or reason in checks() or LOGIN.fullmatch(reason), reason
        assert reason in text, reason


def test_no_id_stands_twice() -> None:
    ids = [case["id"] for case in CASES]
    assert len(ids) == len(set(ids))


def test_what_was_demanded_is_there() -> None:
    assert DEMANDED - {case["id"] for case in CASES} == set()
