"""What may reach a screen (catalogue C10, C11, C12)."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.content.text import MAX_MARKS, MAX_NAME, MAX_ZERO_WIDTH, safe_name, safe_text
from support.payloads import PAYLOADS, forbidden

ISOLATES = "\u2068\u2069"


def test_there_are_forty_payloads() -> None:
    assert len(set(PAYLOADS)) == 40


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("form", ["{}", "before {} after", "a\n{}\nb", "{0}{0}"])
def test_no_payload_reaches_a_screen(payload: str, form: str) -> None:
    text = form.format(payload)
    assert not forbidden(safe_text(text))
    assert not any(char in ISOLATES for char in safe_text(text))
    name = safe_name(text)
    assert not forbidden(name)
    assert "\n" not in name
    assert "\t" not in name


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_is_made_safe_once_and_for_all(text: str) -> None:
    shown = safe_text(text)
    assert not forbidden(shown)
    assert safe_text(shown) == shown
    assert not forbidden(safe_name(text))
    assert len(safe_name(text)) <= MAX_NAME + 2


@pytest.mark.parametrize(
    "text",
    [
        "plain ASCII, with\ttabs\nand lines",
        "Grüße, žluťoučký kůň, Ελληνικά, Русский",
        "שָׁלוֹם עוֹלָם",
        "العَرَبِيَّة \u0600123",
        "हिन्दी தமிழ் ไทย བོད་ཡིག မြန်မာ",
        "中文 日本語 葛\U000e0100 한국어",
        "👩‍👩‍👧 ❤️ 🇩🇪 1️⃣",
        "می‌خواهم",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert safe_text(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", "␛[31m"),
        ("\x7f", "␡"),
        ("\x9b31m", "\ufffd31m"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("a\u2028b\u2029c", "a\nb\nc"),
        ("good\u202efdp.exe", "goodfdp.exe"),
        ("\ud800", "\ufffd"),
        ("\ue000\ufffe\U0001ffff", "\ufffd\ufffd\ufffd"),
        ("\u0301x", "◌\u0301x"),
        ("a\n\u0301x", "a\n◌\u0301x"),
        ("\u200d\u0301x", "\u200d◌\u0301x"),
        ("pay\u00ad\u200b\ufeffpal", "paypal"),
        ("\u115f\u3164x", "x"),
    ],
)
def test_what_is_taken_out_leaves_a_trace_unless_it_was_invisible(text: str, shown: str) -> None:
    assert safe_text(text) == shown


def test_marks_and_joiners_do_not_pile_up() -> None:
    shown = safe_text("e" + ("\u0301\u200d" * 300) + "x")
    assert sum(unicodedata.combining(char) > 0 for char in shown) == MAX_MARKS
    assert shown.count("\u200d") <= 2 * MAX_ZERO_WIDTH
    assert "\ufffd" in shown
    assert shown.endswith("x")


def test_a_name_is_one_line_that_cannot_pass_for_another() -> None:
    assert safe_name("ops") == "ops"
    assert safe_name("ops\n* bob has left") == "ops * bob has left"
    assert safe_name("größe") == "\u2068größe\u2069"
    assert safe_name("a\u200db\u200f") == "ab"
    assert safe_name("") == "\u2068\ufffd\u2069"
    assert safe_name(" \n\t ") == "\u2068\ufffd\u2069"


def test_a_long_name_is_cut_visibly() -> None:
    assert safe_name("x" * MAX_NAME) == "x" * MAX_NAME
    assert safe_name("x" * (MAX_NAME + 1)) == "\u2068" + "x" * (MAX_NAME - 1) + "…\u2069"
