"""A whole relay process on a data directory, for benchmarks and system tests.

python -m benchmarks.relay.process DIRECTORY [FULL|NORMAL|OFF]      prints its port
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

from cloister.relay.app import serve
from cloister.relay.store.sqlite import Synchronous

if __name__ == "__main__":
    mode = cast(Synchronous, sys.argv[2] if len(sys.argv) > 2 else "FULL")
    serve(Path(sys.argv[1]), synchronous=mode, ready=lambda port: print(port, flush=True))
