"""The chain of single particles: which step feeds which."""

from __future__ import annotations

from pathlib import Path

import pytest

from exafel.config.workflow import WorkflowConfig
from exafel.errors import ConfigError
from exafel.steps.chain import chain_of, request_for


def config(**sections: object) -> WorkflowConfig:
    data = {"dataset": "d", "results": "r", "spi_reconstruct": {"diameter_angstrom": 50.0}, **sections}
    return WorkflowConfig.model_validate(data)


def test_simulated_shots_are_reconstructed_and_compared_with_the_truth() -> None:
    links = {link.step: link for link in chain_of(config(simulate_spi={}))}
    assert list(links) == ["simulate_spi", "spi_hits", "spi_reconstruct", "spi_evaluate", "report"]
    root = Path("r/d/000")
    assert links["spi_reconstruct"].inputs == (root / "simulate_spi", root / "spi_hits")
    assert links["spi_reconstruct"].after == ("simulate_spi", "spi_hits")
    assert links["spi_evaluate"].inputs == (root / "simulate_spi", root / "spi_reconstruct")
    assert links["report"].after == ("simulate_spi", "spi_hits", "spi_reconstruct", "spi_evaluate")


def test_measured_shots_have_no_truth() -> None:
    links = {link.step: link for link in chain_of(config(images=["a.h5", "b.h5"]))}
    assert list(links) == ["spi_hits", "spi_reconstruct", "report"]
    assert links["spi_hits"].inputs == (Path("a.h5"), Path("b.h5"))


def test_without_shots_the_missing_section_is_named() -> None:
    with pytest.raises(ConfigError, match="simulate_spi section"):
        chain_of(config())


def test_requests_have_hits_and_shots_in_their_roles(tmp_path: Path) -> None:
    settings = config(simulate_spi={}, results=str(tmp_path))
    links = {link.step: link for link in chain_of(settings)}
    for name in ("simulate_spi", "spi_hits", "spi_reconstruct"):
        (tmp_path / "d" / "000" / name).mkdir(parents=True)
    made = request_for(settings, links["spi_reconstruct"])
    assert made.inputs["hits"] == (tmp_path / "d" / "000" / "spi_hits",)
    assert made.inputs["images"] == (tmp_path / "d" / "000" / "simulate_spi",)
    made = request_for(settings, links["spi_evaluate"])
    assert made.inputs["reconstruction"] == (tmp_path / "d" / "000" / "spi_reconstruct",)
