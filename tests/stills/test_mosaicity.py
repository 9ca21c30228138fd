from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from exafel.arrays import FloatArray
from exafel.config.indexing import MosaicityConfig
from exafel.stills.mosaicity import fit_mosaicity

CONFIG = MosaicityConfig()


def sample(eta_half_deg: float, domain: float, n: int, seed: int) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    d = rng.uniform(1.0 / 1.5**3, 1.0, n) ** (-1 / 3)  # even in reciprocal volume
    d *= 1.8
    width = np.radians(eta_half_deg) + d / domain
    return width / np.sqrt(3) * rng.normal(size=n), d


@pytest.mark.parametrize(("eta_half", "domain"), [(0.1, 2000.0), (0.02, 800.0), (0.3, 500.0)])
def test_recovers_both_parameters(eta_half: float, domain: float) -> None:
    rng = np.random.default_rng(5)
    d = np.exp(rng.uniform(np.log(1.8), np.log(30.0), 20_000))
    width = np.radians(eta_half) + d / domain
    fit = fit_mosaicity(width / np.sqrt(3) * rng.normal(size=len(d)), d, CONFIG)
    assert not fit.degenerate
    assert fit.half_mosaicity_deg == pytest.approx(eta_half, abs=0.004 + 0.05 * eta_half)
    assert fit.domain_size_angstrom == pytest.approx(domain, rel=0.05)


@settings(max_examples=40, deadline=None)
@given(
    eta_half=st.floats(0.0, 0.5), domain=st.floats(200.0, 20_000.0), n=st.integers(15, 400), seed=st.integers(0, 999)
)
def test_is_the_maximum_of_the_likelihood(eta_half: float, domain: float, n: int, seed: int) -> None:
    delta_psi, d = sample(eta_half, domain, n, seed)
    fit = fit_mosaicity(delta_psi, d, CONFIG)

    def cost(x: FloatArray) -> float:
        sigma = (x[0] + x[1] * d) / np.sqrt(3)
        return float((np.log(sigma) + 0.5 * (delta_psi / sigma) ** 2).sum())

    bounds = [(0.0, np.radians(CONFIG.max_half_mosaicity_deg))]
    bounds += [(1.0 / CONFIG.max_domain_size_angstrom, 1.0 / CONFIG.min_domain_size_angstrom)]
    starts = [(np.radians(eta_half) + 1e-6, 1.0 / domain), (1e-6, 1e-3), (1e-2, 2.2e-5)]
    best = min(minimize(cost, x, method="Nelder-Mead", bounds=bounds, options={"maxiter": 2000}).fun for x in starts)
    inverses = bounds[1] if fit.domain_size_angstrom is None else (1.0 / fit.domain_size_angstrom,)
    eta = np.radians(fit.half_mosaicity_deg)
    assert min(cost(np.array([eta, inverse])) for inverse in inverses) <= best + 1e-3


def test_a_crystal_without_domain_broadening_is_flagged_not_given_a_huge_domain() -> None:
    rng = np.random.default_rng(6)
    d = rng.uniform(1.8, 10.0, 300)
    fit = fit_mosaicity(np.radians(0.1) / np.sqrt(3) * rng.normal(size=300) * (2.0 / d) ** 0.3, d, CONFIG)
    assert fit.degenerate
    assert fit.domain_size_angstrom is None
    assert 0.03 < fit.half_mosaicity_deg < 0.2


def test_a_crystal_without_mosaicity_has_none() -> None:
    rng = np.random.default_rng(7)
    d = rng.uniform(1.8, 10.0, 300)
    fit = fit_mosaicity(d**1.2 / 1500.0 / np.sqrt(3) * rng.normal(size=300), d, CONFIG)
    assert fit.half_mosaicity_deg == 0.0
    assert not fit.degenerate


@pytest.mark.parametrize("n", [0, 1, 3])
def test_too_few_reflections_are_flagged(n: int) -> None:
    fit = fit_mosaicity(np.full(n, 1e-3), np.full(n, 3.0), CONFIG)
    assert fit.degenerate
    assert fit.domain_size_angstrom is None
    assert np.isfinite(fit.half_mosaicity_deg)


def test_angles_that_are_all_zero_do_not_break_the_fit() -> None:
    fit = fit_mosaicity(np.zeros(50), np.linspace(2.0, 10.0, 50), CONFIG)
    assert fit.degenerate
    assert fit.half_mosaicity_deg == pytest.approx(0.0, abs=1e-9)
