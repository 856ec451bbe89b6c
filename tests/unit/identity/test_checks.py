"""Every check of the package stands in the spec, in the source and in a test, and nowhere else."""

from __future__ import annotations

import re

from support.need import REPOSITORY

PREFIXES = "NAME|WORD|KEY|CERT|AUTH|MAN|REALM|ENROL|MAIL|VAULT|INVITE"
CHECK = re.compile(rf"\b(?:{PREFIXES})-\d\d\b")


def named_in(pattern: str) -> set[str]:
    paths = list(REPOSITORY.glob(pattern))
    assert paths
    return {name for path in paths for name in CHECK.findall(path.read_text())}


def test_spec_source_and_tests_name_the_same_checks() -> None:
    source = named_in("src/cloister/identity/*.py")
    assert named_in("docs/spec/identity.md") == source
    assert named_in("tests/unit/identity/*.py") | named_in("tests/negative/test_identity_*.py") == source
    assert len(source) > 80
