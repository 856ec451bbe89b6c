"""The register of security checks: each has an id, one function, one negative test.

Source: docs/spec/record.md (REC), docs/spec/suites.md (RUN, COM, ...), docs/spec/classic/ (CON, NON, ...); a test
compares the ids in the source, in those pages and in the tests.

A check is a module-level function that returns None (or what it has verified) or raises PeerError. `check` enters it
under its id and returns it unchanged. Callers name it through its module's globals, so that `make mutants` can put
a function without effect in its place and see a test fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from cloister.errors import InternalError, PeerError

_Check = TypeVar("_Check", bound=Callable[..., Any])

CHECKS: Final[dict[str, Callable[..., Any]]] = {}
"""Every check function by id; `__module__` and `__qualname__` say where it stands."""


def check(name: str) -> Callable[[_Check], _Check]:
    """Enter the function under this id."""

    def enter(function: _Check) -> _Check:
        if name in CHECKS:
            raise InternalError("internal", f"two checks are called {name}")
        CHECKS[name] = function
        return function

    return enter


@contextmanager
def named(name: str) -> Iterator[None]:
    """Give the id to what a primitive raises inside a check."""
    try:
        yield
    except PeerError as error:
        raise PeerError(error.code, error.detail, check=name) from error
