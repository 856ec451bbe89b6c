"""The suites of this release, by name."""

from collections.abc import Mapping
from typing import Final

from cloister.protocols.code import Code
from cloister.protocols.interface import Suite
from cloister.protocols.mls import Mls
from cloister.protocols.nonces import Nonces
from cloister.protocols.pair import Pair
from cloister.protocols.shares import Shares
from cloister.protocols.transport import Transport

SUITES: Final[Mapping[str, Suite]] = {
    "nonces": Nonces(),
    "shares": Shares(),
    "transport": Transport(),
    "transport-strict": Transport(strict=True),
    "pair": Pair(),
    "code": Code(),
    "mls": Mls(),
}
