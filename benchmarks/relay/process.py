"""A whole relay process on a data directory, for benchmarks and system tests.

python -m benchmarks.relay.process DIRECTORY [FULL|NORMAL|OFF] [tcp]      prints its port

With `tcp` it serves raw TCP as well (the port stands in its status), under TLS on this machine too, so that devices log
in there as they would from elsewhere.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

from cloister.relay import listener
from cloister.relay.app import serve
from cloister.relay.store.sqlite import Synchronous

if __name__ == "__main__":
    mode = cast(Synchronous, sys.argv[2] if len(sys.argv) > 2 else "FULL")
    tcp = 0 if "tcp" in sys.argv[3:] else None
    if tcp is not None:
        listener.is_loopback = lambda host: False
    serve(Path(sys.argv[1]), synchronous=mode, tcp=tcp, ready=lambda port: print(port, flush=True))
