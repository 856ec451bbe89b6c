"""The suites of this release, by name."""

from collections.abc import Mapping
from typing import Final

from cloister.protocols.code.suite import Code
from cloister.protocols.interface import Suite
from cloister.protocols.mls.suite import Mls
from cloister.protocols.nonces.suite import Nonces
from cloister.protocols.pair.suite import Pair
from cloister.protocols.shares.suite import Shares
from cloister.protocols.transport.suite import Transport

SUITES: Final[Mapping[str, Suite]] = {
    "nonces": Nonces(),
    "shares": Shares(),
    "transport": Transport(),
    "transport-strict": Transport(strict=True),
    "pair": Pair(),
    "code": Code(),
    "mls": Mls(),
}
