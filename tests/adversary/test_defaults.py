"""F5.7: where a relay listens when nobody says anything, and that raw TCP is asked for."""

from __future__ import annotations

import inspect
from pathlib import Path

from cloister.apps.cli.relay import run
from cloister.relay import app


def test_f57_a_relay_for_this_machine_listens_on_it_alone_and_speaks_raw_tcp_to_nobody(tmp_path: Path) -> None:
    at_home = app.init_relay(tmp_path / "home", "home.example")
    assert (at_home.config.host, at_home.config.listen) == ("localhost", app.LOOPBACK)
    elsewhere = app.init_relay(tmp_path / "elsewhere", "home.example", "relay.example")
    assert elsewhere.config.listen == ""
    assert inspect.signature(app.serve).parameters["tcp"].default is None
    (option,) = [option for option in run.params if option.name == "tcp"]
    assert not option.required
