"""The suites of this release, by name."""

from collections.abc import Mapping
from typing import Final

from cloister.protocols.interface import Suite
from cloister.protocols.mls import Mls
from cloister.protocols.nonces import Nonces

SUITES: Final[Mapping[str, Suite]] = {"nonces": Nonces(), "mls": Mls()}
