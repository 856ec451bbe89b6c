"""The relay's rules: pure, over the protocols `Connection` and `Store`; `relay.RelayCore` is the way in."""

from cloister.relay.core.batch import Batch
from cloister.relay.core.ports import Connection, RelayKeys, Settings
from cloister.relay.core.relay import RelayCore

__all__ = ["Batch", "Connection", "RelayCore", "RelayKeys", "Settings"]
