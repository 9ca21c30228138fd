"""The demonstration of single particles, to lower resolution: its density is found, and halves know how well."""

from __future__ import annotations

from pathlib import Path

import pytest

from exafel.config.workflow import load_workflow_config
from exafel.parallel.launch import launch
from exafel.steps import simulate_spi, spi_evaluate, spi_hits, spi_reconstruct

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_density_of_the_demonstration_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = load_workflow_config(Path("workflows/config/demo_spi.yaml"), {})
    assert config.simulate_spi is not None
    assert config.spi_reconstruct is not None
    marching = config.spi_reconstruct.marching.model_copy(update={"starts": 2})
    settings = config.spi_reconstruct.model_copy(update={"d_min_angstrom": 8.0, "marching": marching})
    shots, hits, density = (tmp_path / name for name in ("shots", "hits", "map"))
    launch(simulate_spi.run, simulate_spi.request(config.simulate_spi, shots))
    launch(spi_hits.run, spi_hits.request(config.spi_hits, [shots], hits))
    found = launch(spi_reconstruct.run, spi_reconstruct.request(settings, [shots], density, hits=hits))
    against = spi_evaluate.request(config.spi_evaluate, density, [shots], tmp_path / "evaluation")
    truth = launch(spi_evaluate.run, against)
    assert found.n_images > 800
    assert truth.orientation_median_deg < 4
    resolution = truth.densities[0].fsc_half_angstrom
    assert resolution is not None
    assert resolution < 9.0
    half = found.classes[0].fsc_half_0143_angstrom
    assert half is not None
    assert half == pytest.approx(resolution, rel=0.1)
