"""Numbers and texts as they are printed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.record.schema import Figure
from reports.words import (
    BREAK,
    breakable,
    clean,
    compact,
    duration,
    figure,
    moment,
    number,
    p_value,
    percent,
    shorten,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.9241, "0.924"),
        (0.0, "0.000"),
        (-7.5e-17, "0.000"),
        (-12.34, "−12.3"),
        (1234.5, "1234"),
        (2.25, "2.25"),
        (0.00002, "2.0 × 10⁻⁵"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


@given(st.floats(-1e6, 1e6))
def test_number_keeps_three_digits(value: float) -> None:
    text = number(value).replace("−", "-")
    if "×" in text:
        mantissa, power = text.split(" × 10")
        digits = power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
        printed = float(mantissa) * 10 ** int(digits)
        assert math.isclose(printed, value, rel_tol=0.06)
    else:
        assert abs(float(text) - value) <= max(0.00051, 0.0051 * abs(value))


@given(st.text())
def test_clean_is_idempotent_and_printable(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert all(c.isprintable() or c.isspace() for c in once)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("/home/jane/doe/x.nii.gz: truncated", "x.nii.gz: truncated"),
        ("cannot read 'C:\\Users\\jane\\x.nii'", "cannot read 'x.nii'"),
        ("and/or 1/2 mm/px", "and/or 1/2 mm/px"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("a\x00b\nc\u202ed", "a b cd"),
        ("脳", "�"),
    ],
)
def test_clean(text: str, printed: str) -> None:
    assert clean(text) == printed


@given(st.text(), st.integers(1, 30))
def test_breakable_only_adds_breaks(text: str, longest: int) -> None:
    text = text.replace(BREAK, "")
    out = breakable(text, longest)
    assert out.replace(BREAK, "") == text
    assert all(len(piece) <= longest for word in out.split() for piece in word.split(BREAK))


@given(st.text(), st.integers(6, 60))
def test_shorten_is_short(text: str, longest: int) -> None:
    assert len(shorten(text, longest)) <= longest


def test_figures_say_when_there_is_no_interval() -> None:
    assert figure(Figure(value=0.5, low=0.25, high=0.75)) == "0.500 [0.250, 0.750]"
    assert figure(Figure(value=0.5)) == "0.500 (no interval)"
    assert figure(Figure()) == "–"
    assert p_value(0.0004) == "<\N{NO-BREAK SPACE}0.001"


def test_times() -> None:
    assert duration(0.25) == "250 ms"
    assert duration(75) == "75.0 s"
    assert duration(338) == "6 min"
    assert duration(7300) == "2 h 02 min"
    assert moment("2026-11-23T02:07:41+01:00") == "2026-11-23 01:07 UTC"
    assert moment("yesterday") == "yesterday"


def test_compact_figures_hide_nothing_small() -> None:
    assert compact(Figure(value=1.3749, low=0.85, high=2.0299)) == "1.37 [0.85, 2.03]"
    assert compact(Figure(value=-1.72, low=-2.1, high=-0.001)) == "−1.72 [−2.10, 0.00]"
    assert compact(Figure(value=0.0123, low=0.01, high=0.05)) == "0.012 [0.010, 0.050]"
    assert compact(Figure(value=0.5)) == "0.500 (no interval)"
    assert percent(Figure(value=0.0183, low=0.01, high=0.4)) == "1.8\N{NO-BREAK SPACE}% [1.0, 40]"
    assert percent(Figure()) == "–"


def test_a_bound_that_says_nothing_is_told_so_in_the_table():
    from types import SimpleNamespace

    from pipeline.record.schema import CriterionResult
    from reports.sections import criteria

    idle = CriterionResult(
        name="skill_auc", title="Skill", bound="at least 0.1", answer="met", idle="too low"
    )
    context = SimpleNamespace(record=SimpleNamespace(criteria=[idle]))
    (table,) = criteria.build(context).blocks
    assert table.rows[0][-1] == "– says nothing"
    assert table.note.startswith(
        "Says nothing of a model and counts for nothing: Skill, at least 0.1: too low. Null"
    )
