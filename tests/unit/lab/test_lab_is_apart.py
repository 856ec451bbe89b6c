"""The lab is for teaching: nothing that people use reaches it, and each original takes back exactly one fix."""

from __future__ import annotations

import ast

import pytest

from cloister.lab.originals import nonces, shares
from cloister.protocols.contributions import steps as contribution_steps
from support.need import REPOSITORY

SRC = REPOSITORY / "src" / "cloister"
ORIGINALS = {"nonces": nonces, "shares": shares}
STEPS: dict[str, type[contribution_steps.Steps]] = {"nonces": nonces.Steps, "shares": shares.Steps}
FIXES: dict[str, dict[str, set[str]]] = {
    "nonces": {
        "InClear": {"encrypt", "decrypt"},
        "PlusOne": {"answer"},
        "FewAnswers": {"answers_to"},
        "BareHash": {"combine"},
        "NoCommitment": {"commitment"},
        "NoConfirm": {"confirms_needed"},
        "NoWrap": {"wrap", "unwrap"},
        "KeyAtRest": {"at_rest"},
    },
    "shares": {
        "NoCommitment": {"commitment"},
        "Copyable": {"committer", "distinct", "refuse_cancelled"},
        "RawXor": {"combine", "split"},
        "Unsigned": {"cipher"},
        "NoConfirm": {"confirms_needed"},
        "NoWrap": {"wrap", "unwrap"},
    },
}
NO_FIX = {"nonces": {"committer", "distinct", "split", "cipher"}, "shares": {"encrypt", "decrypt", "at_rest"}}
"""Steps for which this document needed no fix, or one of its files (F2.6)."""


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


@pytest.mark.parametrize(("suite", "name"), [(suite, name) for suite in FIXES for name in FIXES[suite]])
def test_an_original_overrides_the_steps_of_one_fix(suite: str, name: str) -> None:
    made = getattr(ORIGINALS[suite], name)
    own = {key for key in vars(made) if not key.startswith("_")}
    assert own == FIXES[suite][name] | {"variant"}
    assert issubclass(made, STEPS[suite])


@pytest.mark.parametrize("suite", FIXES)
def test_the_fixes_are_all_the_steps_and_the_document_has_none(suite: str) -> None:
    steps = {key for key in dir(STEPS[suite]) if not key.startswith("_")} - {"variant", "form"} - NO_FIX[suite]
    assert steps == set().union(*FIXES[suite].values())
    for step in steps:
        assert getattr(ORIGINALS[suite].Document, step) is not getattr(STEPS[suite], step)


@pytest.mark.parametrize("suite", FIXES)
def test_every_variant_has_a_name_of_its_own(suite: str) -> None:
    variants = [getattr(ORIGINALS[suite], name).variant for name in (*FIXES[suite], "Document")]
    assert len({STEPS[suite].variant, *variants}) == len(variants) + 1
