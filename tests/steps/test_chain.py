"""The chain of steps: what follows what, what each reads, and where results lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from exafel.config.base import validate
from exafel.config.workflow import WorkflowConfig, load_workflow_config
from exafel.errors import ConfigError, InputError
from exafel.steps.chain import chain_of, find_link, request_for, run_link, trial_folder, write_config

SIMULATED = {"dataset": "d", "trial": "t", "results": "r", "simulate": {"structure": "contents.pdb"}}


def config_of(**keys: object) -> WorkflowConfig:
    return validate(WorkflowConfig, {**SIMULATED, **keys})


def test_simulated_images_begin_the_chain() -> None:
    links = chain_of(config_of())
    assert [link.step for link in links] == ["simulate", "stills", "cells", "merge", "report"]
    simulate, stills, cells, merge, report = links
    assert (simulate.inputs, simulate.files) == ((), (Path("contents.pdb"),))
    assert (stills.after, stills.inputs) == (("simulate",), (Path("r/d/t/simulate"),))
    assert cells.inputs == merge.inputs == (stills.out,) == (Path("r/d/t/stills"),)
    assert report.inputs == tuple(link.out for link in links[:4])


@pytest.mark.parametrize("images", ["run1", ["run1", "run2"]])
def test_given_images_come_before_simulated_ones(images: str | list[str]) -> None:
    links = chain_of(config_of(images=images))
    assert links[0].step == "stills"
    assert links[0].after == ()
    assert links[0].inputs == tuple(Path(item) for item in ([images] if isinstance(images, str) else images))


def test_every_step_comes_after_those_that_it_needs() -> None:
    links = chain_of(config_of())
    for number, link in enumerate(links):
        assert set(link.after) <= {before.step for before in links[:number]}


def test_files_that_a_section_names_are_read_by_its_step() -> None:
    detector = {"type": "expt", "path": "detector.expt"}
    config = config_of(
        simulate={"structure": "a.pdb", "detector": detector},
        merge={"scaling": {"algorithm": "mark0", "model": "a.mtz"}, "statistics": {"cciso_model": "a.mtz"}},
    )
    assert find_link(config, "simulate").files == (Path("a.pdb"), Path("detector.expt"))
    assert find_link(config, "merge").files == (Path("a.mtz"),)
    assert find_link(config, "cells").files == ()


@pytest.mark.parametrize(
    ("file", "after", "files"),
    [
        ("r/d/t/cells/cells.json", ("stills", "cells"), ()),
        ("r/d/./t/cells/cells.json", ("stills", "cells"), ()),
        ("r/d/other/cells/cells.json", ("stills",), (Path("r/d/other/cells/cells.json"),)),
    ],
)
def test_a_merge_filtered_by_clusters_comes_after_their_step(
    file: str, after: tuple[str, ...], files: tuple[Path, ...]
) -> None:
    filters = {"unit_cell": {"algorithm": "cluster", "cluster": {"file": file}}}
    link = find_link(config_of(merge={"filter": filters}), "merge")
    assert (link.after, link.files) == (after, files)
    assert link.inputs == (Path("r/d/t/stills"),)


@pytest.mark.parametrize("images", ["run1", None])
def test_an_unknown_cell_is_found_before_the_shots_are_indexed(images: str | None) -> None:
    mask = {"indexing": {"two_passes": True}, "geometry": {"mask": "good.npy"}}
    config = config_of(stills=mask, **({"images": images} if images else {}))
    links = {link.step: link for link in chain_of(config)}
    made = [] if images else ["simulate"]
    assert list(links) == [*made, "stills_first", "cells_first", "stills", "cells", "merge", "report"]
    root = Path("r/d/t")
    shots = (Path(images),) if images else (root / "simulate",)
    assert (links["stills_first"].after, links["stills_first"].inputs) == (tuple(made), shots)
    assert links["cells_first"].inputs == (root / "stills_first",)
    assert (links["stills"].after, links["stills"].inputs) == ((*made, "cells_first"), shots)
    assert links["stills_first"].files == links["stills"].files == (Path("good.npy"),)
    assert links["report"].after == (*made, "stills", "cells", "merge"), "the first pass is not a result"


def test_refinement_against_pixels_is_asked_for() -> None:
    links = {link.step: link for link in chain_of(config_of(diffbragg=True))}
    assert list(links)[3:] == ["merge", "stage1", "predict", "stage2", "evaluate", "report"]
    root = Path("r/d/t")
    assert links["stage1"].inputs == (root / "stills", root / "merge")
    assert links["stage2"].inputs == (root / "predict", root / "merge")
    assert links["evaluate"].after == ("stills", "simulate", "merge", "stage1", "stage2")
    measured = [link.step for link in chain_of(config_of(diffbragg=True, images="run1"))]
    assert measured == ["stills", "cells", "merge", "stage1", "predict", "stage2", "report"]


def test_neither_images_nor_simulation_is_an_error() -> None:
    with pytest.raises(ConfigError, match="there are no images"):
        chain_of(WorkflowConfig())


def test_a_step_that_is_not_in_the_chain_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no step 'simulate' here, but stills, cells, merge, report"):
        find_link(config_of(images="run1"), "simulate")


def test_the_configuration_written_beside_the_results_is_the_same(tmp_path: Path) -> None:
    config = config_of(results=str(tmp_path), images="run1", merge={"d_min": 2.5})
    path = write_config(config)
    assert path == trial_folder(config) / "config.yaml"
    assert load_workflow_config(path) == config


def test_a_step_is_run_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"contents\.pdb"):
        run_link(config_of(results=str(tmp_path)), "simulate")
    request = request_for(config_of(), find_link(config_of(), "simulate"))
    assert (request.step, request.out) == ("simulate", Path("r/d/t/simulate"))
