from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exafel.config.merge import MergeConfig
from exafel.merging.error_models import ErrorModel, SampleResiduals, fit_errors
from exafel.merging.group import Observations, order_words
from exafel.merging.scaling import Reference
from exafel.parallel.comm import SerialComm


def made(n_unique: int = 300, multiplicity: int = 8) -> Observations:
    rng = np.random.default_rng(4)
    words = [order_words(2 * np.arange(1, n_unique + 1), number, odd=number % 2 == 1) for number in range(multiplicity)]
    order = np.concatenate(words)
    true = np.tile(100.0 * rng.exponential(size=n_unique), multiplicity)
    variance = np.full(len(order), 25.0)
    rows = np.argsort(order)
    return Observations(order[rows], rng.normal(true, 2.0 * np.sqrt(variance + (0.3 * true) ** 2))[rows], variance)


def fit(data: list[Observations], error: dict[str, object], reference: Reference | None = None) -> ErrorModel:
    settings: dict[str, object] = {"error": error}
    if reference is not None:
        settings["scaling"] = {"algorithm": "mark0", "model": "reference.mtz"}
    config = MergeConfig.model_validate(settings)
    return fit_errors(lambda: iter(data), sum(map(len, data)), np.full(8, 0.9), reference, config, SerialComm())


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6), min_size=1, max_size=6))
def test_sample_residuals_are_the_sample_variance(reflections: list[list[float]]) -> None:
    words = [
        order_words(np.array([2 * key + 2]), number, odd=False)
        for key, values in enumerate(reflections)
        for number in range(len(values))
    ]
    intensity = np.array([value for values in reflections for value in values])
    found = SampleResiduals().variance(Observations(np.concatenate(words), intensity, np.full(len(intensity), 3.0)))
    start = 0
    for values in reflections:
        spread = np.var(values, ddof=1) if len(values) > 1 else 0.0
        if len(values) == 1 or len(set(values)) == 1:
            spread = found[start] if spread < 1e-9 else spread
        expected = [spread if spread > 0 else 3.0] * len(values)
        assert found[start : start + len(values)].tolist() == pytest.approx(expected, rel=1e-6, abs=1e-9)
        start += len(values)


def test_no_model_keeps_the_errors_and_given_factors_use_the_reference() -> None:
    data = made()
    assert fit([data], {"model": "none"}).variance(data) is data.variance
    reference = Reference.of(np.unique(data.keys), np.full(300, 50.0))
    model = fit([data], {"model": "given", "sdfac": 2.0, "sdadd": 0.3}, reference)
    assert model.variance(data).tolist() == pytest.approx([4.0 * (25.0 + 0.09 * 2500.0)] * len(data))
    assert model.parameters() == {"sdfac": 2.0, "sdb": 0.0, "sdadd": 0.3}
    elsewhere = fit([data], {"model": "given", "sdfac": 2.0}, Reference.of(np.array([9000]), np.array([1.0])))
    assert elsewhere.variance(data).tolist() == pytest.approx([100.0] * len(data))


@pytest.mark.parametrize("model", ["ev11", "mm24"])
def test_observations_in_parts_fit_the_same_model(model: str) -> None:
    data = made()
    parts = [data.take(data.keys // 2 % 3 == number) for number in range(3)]
    assert fit([data], {"model": model}).parameters() == fit(parts, {"model": model}).parameters()


@pytest.mark.parametrize("model", ["ev11", "mm24"])
def test_a_part_of_the_reflections_fits_about_the_same_model(model: str) -> None:
    data = made(3000)
    whole = fit([data], {"model": model}).variance(data)
    some = fit([data], {"model": model, "max_observations": 8000}).variance(data)
    np.testing.assert_allclose(some, whole, rtol=0.25)
    assert not np.array_equal(some, whole)
