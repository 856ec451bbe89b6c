"""Fix x attack: each attack succeeds against a document, fails against the suite, and one fix put back stops it.

    Attack("nonces", "+1 answer", "F1.2", attempt)      attempt(subject) -> True: the attacker got what it wanted
    judge(attack) -> Row                                four attempts, for real

`attempt` is given four subjects in turn (`cloister.lab.originals`): the original as the document has it, the suite
as people use it, the original with the attack's ONE fix put back, and the suite with this one fix taken back. It
returns True when the attacker has what it wanted; it returns False, or lets the refusal of an honest device out as
PeerError or UsageError, when not. Where the last attempt fails, another fix stops the attack as well.

`lab/attacks/<suite>.py` has the suite's `ATTACKS`; `python -m cloister.lab.attacks` runs them all. Sessions, a relay
in memory and keys come from `cloister.testing.sessions`. Fixes of files, formats and defaults have no attack but a
test, which tests/adversary/catalogue.toml names; a test compares both with the fixes of the pages.

Invariants: an attack reads no switch of the suite and asks the subject for nothing but to be attacked; it uses only
what its attacker has (a member's own state, what a relay stores, a copy that a thief took).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from cloister.errors import PeerError, UsageError
from cloister.testing.sessions import Node

SUCCEEDS = "succeeds"
REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack: on which suite, in a few words what the attacker does, and the fix that answers it."""

    suite: str
    name: str
    fix: str
    attempt: Callable[[Any], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What happened, in a word each: `original`, `fixed` (the suite), `alone` (the original with this one fix),
    `without` (the suite without it).

    `by` is the code, and the check's id where it has one, with which the suite refused; empty where there was nothing
    to refuse and the attacker merely learned nothing.
    """

    suite: str
    attack: str
    fix: str
    original: str
    fixed: str
    alone: str
    without: str
    by: str

    @property
    def holds(self) -> bool:
        """Whether the attack works on the original, and the fix alone and the suite stop it."""
        return (self.original, self.fixed, self.alone) == (SUCCEEDS, REFUSED, REFUSED)


def attempted(attack: Attack, subject: Any) -> tuple[str, str]:
    """One attempt: in a word how it went, and what refused it."""
    try:
        return (SUCCEEDS if attack.attempt(subject) else REFUSED), ""
    except PeerError as error:
        return REFUSED, f"{error.code} {error.check}".strip()
    except UsageError as error:
        return REFUSED, error.code


def judge(attack: Attack) -> Row:
    """The four attempts."""
    originals = importlib.import_module(f"cloister.lab.originals.{attack.suite}")
    original, _ = attempted(attack, originals.original())
    fixed, by = attempted(attack, originals.product())
    alone, _ = attempted(attack, originals.original(frozenset({attack.fix})))
    without, _ = attempted(attack, originals.original(frozenset(originals.FIXES) - {attack.fix}))
    return Row(
        suite=attack.suite,
        attack=attack.name,
        fix=attack.fix,
        original=original,
        fixed=fixed,
        alone=alone,
        without=without,
        by=by,
    )


def attacks(suites: Iterable[str] = ()) -> tuple[Attack, ...]:
    """Every attack (on these suites), in the order of the suites' names and fixes."""
    names = sorted(suites) or [module.name for module in pkgutil.iter_modules(__path__) if module.name != "__main__"]
    found: list[Attack] = []
    for name in names:
        found += importlib.import_module(f"{__name__}.{name}").ATTACKS
    return tuple(found)


def lost(nodes: Iterable[Node]) -> bool:
    """How an attempt ends that came to nothing: the first refusal of the attacked devices goes out, or False."""
    for node in nodes:
        for fault in node.faults:
            raise PeerError(fault.code, fault.detail, check=fault.check)
    return False
