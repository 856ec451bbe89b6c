"""What a command writes, and what it must not."""

from __future__ import annotations

import json

import pytest

from cloister.apps.cli.output import Settings, guarded, json_line
from support.payloads import PAYLOADS


def is_safe(text: str) -> bool:
    return not any((char < " " and char not in "\n\t") or "\x7f" <= char <= "\x9f" for char in text)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_written_holds_a_control_character(payload: str, capsys: pytest.CaptureFixture[str]) -> None:
    for wanted in (False, True):
        settings = Settings(json=wanted)
        settings.screen.data(payload)
        settings.screen.say(payload, "good")
        settings.screen.record("x", text=payload)
        out, err = capsys.readouterr()
        assert is_safe(out)
        assert is_safe(err)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_json_holds_the_text_as_it_is_but_in_ascii(payload: str) -> None:
    line = json_line("message", text=payload)
    assert line.isascii()
    assert is_safe(line)
    assert json.loads(line)["text"] == payload


def test_an_object_begins_with_its_version_and_type() -> None:
    assert json_line("x", a=1) == '{"v": 1, "type": "x", "a": 1}'


def test_data_go_to_standard_output_and_words_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Settings().screen
    screen.data("data")
    screen.record("unseen")
    screen.say("words")
    assert capsys.readouterr() == ("data\n", "words\n")


def test_with_json_only_objects_stand_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Settings(json=True).screen
    screen.data("unseen")
    screen.record("x")
    assert capsys.readouterr().out == '{"v": 1, "type": "x"}\n'


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Settings(quiet=True).screen.say("words")
    assert capsys.readouterr().err == ""


class Terminal:
    """A standard error that says it is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("color", "colored"), [(True, True), (False, False)])
def test_colour_only_on_a_terminal_that_wants_it(color: bool, colored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    Settings(color=color).screen.say("words", "good")
    assert ("\x1b[" in terminal.text) is colored


def test_newlines_and_tabs_are_left() -> None:
    assert guarded("a\n\tb") == "a\n\tb"
    assert guarded("a\rb\x1bc\x9bd\ud800") == "a\ufffdb\ufffdc\ufffdd\ufffd"
