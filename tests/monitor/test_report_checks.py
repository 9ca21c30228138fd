"""The report's words on merged intensities as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from exafel.monitor.report.blocks import Figure, Section, Table
from exafel.monitor.report.merged_checks import add_checks, add_error_model, add_indexing

INVERSE = np.linspace(0.01, 0.25, 20)
B_FACTOR = 30.0
CHECKS: dict[str, Any] = {
    "wilson": [
        {"d_min": float(x**-0.5), "inverse_d_squared": float(x), "ln_ratio": float(2.0 - B_FACTOR / 2 * x)}
        for x in INVERSE
    ],
    "wilson_b": B_FACTOR,
    "acentric_moment": 1.5234,
    "centric_moment": None,
    "mean_l": 0.41,
    "mean_l_squared": 0.23,
    "n_l": 900,
    "twin_fraction": 0.31,
}


def tables(section: Section) -> list[Table]:
    return [block for block in section.blocks if isinstance(block, Table)]


def test_the_wilson_plot_has_its_numbers_and_its_slope_in_words() -> None:
    section = Section("merge", "Merged intensities")
    add_checks(section, {"checks": CHECKS})
    (figure,) = [block for block in section.blocks if isinstance(block, Figure)]
    assert "B = 30.0" in figure.caption
    assert figure.numbers.columns["ln_ratio"] == [point["ln_ratio"] for point in CHECKS["wilson"]]
    assert "<svg" in figure.svg


def test_twinning_is_shown_beside_what_to_expect_and_unknown_tests_are_left_out() -> None:
    section = Section("merge", "Merged intensities")
    add_checks(section, {"checks": CHECKS})
    (table,) = tables(section)
    assert [row[0] for row in table.rows] == ["⟨I²⟩/⟨I⟩², acentric", "⟨|L|⟩", "⟨L²⟩"]
    assert table.rows[1] == ("⟨|L|⟩", "0.410", "0.5", "0.375")
    assert "0.31" in table.caption


def test_bijvoet_differences_are_shown_where_mates_were_kept_apart() -> None:
    section = Section("merge", "Merged intensities")
    add_checks(section, {"n_anom": 1200, "cc_anom": 0.345, "anom_signal": 1.21})
    (table,) = tables(section)
    assert [row[1] for row in table.rows] == [1200, "0.345", "1.210"]
    empty = Section("merge", "Merged intensities")
    add_checks(empty, {"n_anom": 0, "cc_anom": None, "checks": None})
    assert empty.blocks == []


@pytest.mark.parametrize(
    ("summary", "rows", "name"),
    [
        ({"sdfac": 1.2, "sdb": 0.8, "sdadd": 0.6}, 3, "ev11"),
        ({"error_model": "mm24", "error_parameters": {"sfac": 1.0, "sadd_a": 0.2}}, 2, "mm24"),
        ({"error_model": "given", "error_parameters": {"sdfac": 1.0}}, 1, "given factors"),
    ],
)
def test_an_error_model_is_shown_with_its_formula(summary: dict[str, Any], rows: int, name: str) -> None:
    section = Section("merge", "Merged intensities")
    add_error_model(section, summary, {"sdfac": "all errors alike"})
    (table,) = tables(section)
    assert len(table.rows) == rows
    assert name in table.caption


def test_models_without_parameters_and_lattices_without_a_choice_take_no_room() -> None:
    section = Section("merge", "Merged intensities")
    add_error_model(section, {"error_model": "none", "error_parameters": {}}, {})
    add_indexing(section, {"reindexed": {}})
    assert section.blocks == []
    add_indexing(section, {"reindexed": {"h,k,l": 30, "k,h,-l": 28}})
    assert tables(section)[0].rows == (("h,k,l", 30), ("k,h,-l", 28))
