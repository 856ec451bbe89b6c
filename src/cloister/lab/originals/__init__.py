"""The five documents as they stand, one module a suite: each override class takes exactly one fix back.

What every module here offers, and `cloister.lab.attacks` uses:

    FIXES: Mapping[str, type]                      fix id ("F1.2") -> the class that takes this fix back
    product() -> subject                           the suite as people use it
    original(put_back=frozenset()) -> subject      the document as it stands, but for the fixes that are put back

A subject is what an attack is aimed at: the suite object, or a bundle of it and of what else the fixes changed (the
login, the rendezvous), as the module's docstring says. `taken_back` composes the override classes.

A suite built from these has a variant name of its own, which no product suite consents to (`not_allowed`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def taken_back(product: type, fixes: Mapping[str, type], put_back: frozenset[str], **names: Any) -> Any:
    """An object of the product's class with every fix taken back, but for those put back; `names` are its attributes.

    LookupError for a fix that is none of these: a typing error would otherwise put nothing back.
    """
    if unknown := put_back - fixes.keys():
        raise LookupError(f"no such fix: {', '.join(sorted(unknown))}")
    overrides = [override for fix, override in fixes.items() if fix not in put_back]
    return type("Original", (*overrides, product), names)()
