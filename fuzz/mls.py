"""Coverage-guided fuzzing of the MLS engine: only PeerError may leave, a refusal may change nothing.

python fuzz/mls.py [libFuzzer options]          # for example -max_total_time=600
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["cloister.mls", "cloister.codec"]):
    from mls_targets import LIMIT, one_input, seeds


def main() -> None:
    """Run the fuzzer with the seeds as its corpus."""
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds()):
            Path(folder, f"seed-{number}").write_bytes(seed)
        atheris.Setup([*sys.argv, folder, f"-max_len={LIMIT}", "-rss_limit_mb=1024"], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
