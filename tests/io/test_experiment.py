"""Identifiers of experiments: one lattice, one name, wherever and however it is processed."""

from __future__ import annotations

from pathlib import Path

import pytest

from exafel.io.experiment import ImageRef, experiment_identifier


def test_every_image_and_lattice_has_its_own() -> None:
    images = [
        ImageRef(Path("/data/run1/images/0001.cbf")),
        ImageRef(Path("/data/run2/images/0001.cbf")),
        ImageRef(Path("/data/run1/images/0002.cbf")),
        ImageRef(Path("/data/run1/images/run.h5"), 0),
        ImageRef(Path("/data/run1/images/run.h5"), 1),
    ]
    found = {experiment_identifier(image, lattice) for image in images for lattice in range(2)}
    assert len(found) == 10


def test_it_does_not_depend_on_how_the_path_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = (tmp_path / "a.h5", Path("a.h5"), Path("./b/../a.h5"), Path("..") / tmp_path.name / "a.h5")
    assert len({experiment_identifier(ImageRef(name, 3), 0) for name in names}) == 1


def test_a_tree_that_is_moved_as_a_whole_keeps_them() -> None:
    before, after = (ImageRef(Path(f"/{place}/run1/images/0001.cbf")) for place in ("scratch/me", "archive"))
    assert experiment_identifier(before, 0) == experiment_identifier(after, 0)
