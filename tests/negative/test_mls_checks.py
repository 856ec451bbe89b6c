"""The register of checks, its document, the sources and the tests say the same."""

from __future__ import annotations

import ast
import re
from collections import Counter

from cloister.errors import REGISTRY
from cloister.mls import CHECKS
from support.need import REPOSITORY

ID = re.compile(r"MLS-V\d{3}")
DOCUMENT = REPOSITORY / "docs" / "spec" / "mls-checks.md"
SOURCES = REPOSITORY / "src" / "cloister" / "mls"
NEGATIVE = REPOSITORY / "tests" / "negative"
MUST_SENTENCES = 137
"""Sentences with MUST in the text of RFC 9420 (code blocks left out), counted in the working group's copy."""


def refused_in_sources() -> set[str]:
    found = set()
    for path in SOURCES.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in ("refuse", "climb"):
                    found |= {
                        text
                        for each in ast.walk(node)
                        if isinstance(each, ast.Constant) and isinstance(text := each.value, str) and ID.fullmatch(text)
                    }
    for path in (SOURCES / "joining.py",):  # treekem.climb is told which check it carries out
        found |= set(re.findall(r'climb\([^)]*"(MLS-V\d{3})"\)', path.read_text()))
    return found


def rows(heading: str) -> list[list[str]]:
    text = DOCUMENT.read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    table = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1:]]


def test_every_check_is_refused_in_the_sources_and_nothing_else_is() -> None:
    assert refused_in_sources() == set(CHECKS)


def test_every_check_has_a_negative_test() -> None:
    tested = set()
    for path in NEGATIVE.glob("test_mls_*.py"):
        tested |= set(re.findall(r'@case\("(MLS-V\d{3})"\)', path.read_text()))
    assert tested == set(CHECKS)


def test_the_document_is_the_register() -> None:
    expected = [[check.check_id, check.section, check.kind, check.code, check.rule] for check in CHECKS.values()]
    assert rows("Register") == expected


def test_every_error_code_is_registered() -> None:
    assert {check.code for check in CHECKS.values()} <= set(REGISTRY)


def test_every_must_is_a_check_a_duty_with_its_test_or_not_ours() -> None:
    table = rows("Every MUST of RFC 9420")
    assert [int(row[0]) for row in table] == list(range(1, MUST_SENTENCES + 1))
    for _, _, _, kind, where in table:
        if kind == "check":
            assert where in CHECKS
        elif kind == "sender":
            path, name = where.strip("`").split("::")
            assert f"def {name}(" in (REPOSITORY / path).read_text(), where
        else:
            assert kind == "not ours"
            assert where
    counts = Counter(row[3] for row in table)
    summary = f"{counts['check']} checks, {counts['sender']} duties of a sender or keeper of state, "
    assert f"{summary}{counts['not ours']} not ours" in DOCUMENT.read_text()
