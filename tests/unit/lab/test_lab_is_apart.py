"""The lab is for teaching: nothing that people use reaches it, and each original takes back exactly one fix."""

from __future__ import annotations

import ast

import pytest

from cloister.lab.originals import nonces as originals
from cloister.protocols.nonces_steps import Steps
from support.need import REPOSITORY

SRC = REPOSITORY / "src" / "cloister"
FIXES = {
    "InClear": {"encrypt", "decrypt"},
    "PlusOne": {"answer"},
    "FewAnswers": {"answers_to"},
    "BareHash": {"combine"},
    "NoCommitment": {"commitment"},
    "NoConfirm": {"confirms_needed"},
    "NoWrap": {"wrap", "unwrap"},
    "KeyAtRest": {"at_rest"},
}
OF_SHARES = {"committer", "distinct", "split"}
"""Steps that document 001 has fixes for, and 000 none."""


def test_no_product_module_imports_the_lab() -> None:
    for path in SRC.rglob("*.py"):
        where = path.relative_to(SRC).as_posix()
        if where.startswith("lab/") or where == "apps/cli/lab.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not any(name.name.startswith("cloister.lab") for name in node.names), where
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("cloister.lab"), where


@pytest.mark.parametrize("name", FIXES)
def test_an_original_overrides_the_steps_of_one_fix(name: str) -> None:
    made = getattr(originals, name)
    own = {key for key in vars(made) if not key.startswith("_")}
    assert own == FIXES[name] | {"variant"}
    assert issubclass(made, Steps)


def test_the_fixes_are_all_the_steps_and_the_document_has_none() -> None:
    steps = {key for key in dir(Steps) if not key.startswith("_")} - {"variant", "form"} - OF_SHARES
    assert steps == set().union(*FIXES.values())
    for step in steps:
        assert getattr(originals.Document, step) is not getattr(Steps, step)


def test_every_variant_has_a_name_of_its_own() -> None:
    variants = [getattr(originals, name).variant for name in (*FIXES, "Document")]
    assert len({Steps.variant, *variants}) == len(variants) + 1
