"""The page as a reader gets it: whole, offline, with every section, and right in its numbers."""

from __future__ import annotations

import base64
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from exafel.cli.main import run as command
from exafel.config.report import ReportConfig
from exafel.errors import InputError
from exafel.io.manifest import read_manifest, verify_containers
from exafel.parallel.launch import launch
from exafel.steps import report
from exafel.steps.base import plan

VOID = {"meta", "link", "br", "img", "hr", "input", "image", "use", "path", "circle", "rect"}


class Page(HTMLParser):
    """Collects what a test asks of a page, and checks that its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.headings: list[str] = []
        self.words: list[str] = []
        self.links: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            if values.get(name):
                self.references.append((tag, str(values[name])))
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if values.get("download"):
            self.links[str(values["download"])] = str(values["href"])
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())
        if self._open and self._open[-1] == "h2":
            self.headings.append(data.strip())

    def download(self, name: str) -> bytes:
        """Content of a file that the page offers."""
        return base64.b64decode(self.links[name].partition(",")[2])


@pytest.fixture(scope="module")
def written(full_trial: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the report on the whole trial."""
    out = tmp_path_factory.mktemp("report")
    launch(report.run, report.request(ReportConfig(), [full_trial], out))
    return out


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    """The page on the whole trial."""
    return Page((written / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def numbers(written: Path) -> Any:
    """Numbers of the whole trial, by section."""
    return json.loads((written / "report.json").read_bytes())["sections"]


def sections_of(trial: Path, out: Path) -> Any:
    """Write a report and return its numbers by section."""
    launch(report.run, report.request(ReportConfig(), [trial], out))
    Page((out / "report.html").read_text(encoding="utf-8"))
    return json.loads((out / "report.json").read_bytes())["sections"]


@pytest.fixture
def own_trial(full_trial: Path, tmp_path: Path) -> Path:
    """A copy of the trial to spoil."""
    return Path(shutil.copytree(full_trial, tmp_path / "lysozyme" / "001"))


def test_nothing_is_fetched_from_outside(page: Page, written: Path) -> None:
    assert page.references
    for tag, reference in page.references:
        assert reference.startswith(("#", "data:")), f"<{tag}> refers to {reference[:80]}"
    text = (written / "report.html").read_text(encoding="utf-8")
    assert "@import" not in text
    assert not [part for part in text.split("url(")[1:] if not part.startswith(("#", "data:", "'#", '"#'))]


def test_every_section_is_there_and_has_an_anchor(page: Page) -> None:
    wanted = {
        "overview": "Overview", "shots": "Shots: hits and indexing", "images": "Images", "cells": "Unit cells",
        "lattices": "Indexing and refinement", "merge": "Merged intensities", "truth": "Comparison with the truth",
        "weather": "Computational weather", "timings": "Timings", "steps": "What ran", "parameters": "Parameters",
    }  # fmt: skip
    assert page.headings == list(wanted.values())
    assert [key for tag, key in page.references if tag == "a" and key[1:] in wanted] == [f"#{key}" for key in wanted]


def test_ids_are_unique_and_anchors_lead_somewhere(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    targets = {reference[1:] for _, reference in page.references if reference.startswith("#")}
    assert targets <= set(page.ids)


def test_shots_are_counted_as_the_table_has_them(numbers: Any) -> None:
    shots = numbers["shots"]
    assert shots["n_shots"] == 12
    assert shots["outcomes"] == {
        "integrated": 6, "integrate_failed": 1, "not_indexed": 2, "no_hit": 2, "read_failed": 1
    }  # fmt: skip
    assert shots["reasons"]["no_hit"] == {"because of no_hit": 2}
    assert shots["hit_rate"] == pytest.approx(9 / 12)
    assert shots["indexed_of_hits"] == pytest.approx(7 / 9)
    assert shots["indexed_of_shots"] == pytest.approx(7 / 12)


def test_cells_and_residuals_are_those_of_the_lattices(numbers: Any) -> None:
    cells = numbers["cells"]["statistics"]
    assert cells["a"]["median"] == pytest.approx(78.2 + 0.01 * (4 + 5) / 2)
    assert cells["c"]["median"] == pytest.approx(38.1)
    bars = numbers["cells"]["figures"]["cells"]
    assert sum(count for count, name in zip(bars["count"], bars["quantity"], strict=True) if name == "a (Å)") == 6
    assert numbers["lattices"]["rmsd_px"]["median"] == pytest.approx(0.5)
    assert numbers["lattices"]["n_spots"]["n"] == 9, "of every hit"
    assert "half_mosaicity_deg" not in numbers["lattices"], "no lattice has it"


def test_numbers_of_steps_are_those_of_their_manifests(numbers: Any, full_trial: Path) -> None:
    merge = read_manifest(full_trial / "merge")
    for key, value in merge.summary.items():
        assert numbers["merge"][key] == value
    assert numbers["merge"]["figures"]["agreement"]["cc_half"] == [s["cc_half"] for s in merge.summary["shells"]]
    assert numbers["truth"]["misorientation_deg"] == {"median": 0.012, "max": 0.05}
    for name in ("stills", "merge", "simulate", "evaluate"):
        manifest = read_manifest(full_trial / name)
        assert numbers["steps"][name]["config"] == manifest.config
        assert numbers["steps"][name]["git_describe"] == "v0.1-3-gabcdef0"


def test_changed_parameters_stand_out(numbers: Any, page: Page) -> None:
    assert numbers["parameters"]["merge"]["changed"] == {"d_min": 2.0}
    assert numbers["parameters"]["stills"]["changed"] == {}
    assert "merge: parameters that are not the default." in page.words


def test_timings_add_up_to_the_ranks(numbers: Any) -> None:
    phases = {item["phase"]: item for item in numbers["timings"]["stills"]["phases"]}
    assert phases["index"]["wall_mean"] == pytest.approx(6.5)
    assert phases["index"]["wall_max"] == pytest.approx(7.0)
    assert sum(item["cpu_sum"] for item in phases.values()) == pytest.approx(2 * 9.0)


def test_pictures_show_the_spots_of_the_typical_shot(numbers: Any, page: Page) -> None:
    drawn = numbers["images"]["integrated"]
    assert drawn["image"] == "rank-00000.h5[4]", "shots 0, 2, 4, 5, 7, 9 have 6 + shot spots each"
    assert drawn["n_spots"] == drawn["n_spots_drawn"] == drawn["n_predicted"] == 10
    assert numbers["images"]["missed"]["n_spots_drawn"] == 9
    assert numbers["images"]["missed"]["n_predicted"] == 0
    spots = numbers["images"]["figures"]["integrated-spots"]
    assert spots["panel"][:6] == [0, 0, 0, 1, 1, 1]
    assert spots["fast_px"][:3] == [15.5, 35.5, 55.5]


def test_every_picture_offers_its_numbers(numbers: Any, page: Page) -> None:
    figures = {name: data for section in numbers.values() for name, data in section["figures"].items()}
    assert len(figures) >= 11
    for name, data in figures.items():
        assert json.loads(page.download(f"{name}.json")) == data
        lines = page.download(f"{name}.csv").decode().splitlines()
        assert lines[0].split(",")[0] == next(iter(data))
        assert len(lines) == 1 + len(next(iter(data.values())))


def test_the_step_records_its_files_and_is_not_run_again(full_trial: Path, written: Path) -> None:
    request = report.request(ReportConfig(), [full_trial], written)
    manifest = read_manifest(written)
    verify_containers(written, manifest)
    assert [item.path for item in manifest.containers] == ["report.html", "report.json"]
    assert plan(request)["would"].startswith("nothing")
    assert launch(report.run, request).up_to_date


def test_two_ranks_write_one_report(full_trial: Path, tmp_path: Path) -> None:
    config = ReportConfig(draw_images=False, title="Two ranks")
    summary = launch(report.run, report.request(config, [full_trial], tmp_path / "out"), ranks=2)
    assert "images" not in summary.sections
    assert "Two ranks" in Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).words


def test_single_steps_can_be_named(full_trial: Path, tmp_path: Path) -> None:
    summary = launch(report.run, report.request(ReportConfig(), [full_trial / "merge"], tmp_path / "out"))
    assert summary.absent == ("stills", "cells")
    assert "merge" in summary.sections


@pytest.mark.parametrize("missing", [("stills",), ("cells", "merge", "evaluate", "simulate")])
def test_missing_steps_are_said_in_the_page(own_trial: Path, tmp_path: Path, missing: tuple[str, ...]) -> None:
    for name in missing:
        shutil.rmtree(own_trial / name)
    sections = sections_of(own_trial, tmp_path / "out")
    expected = [name for name in missing if name in ("stills", "cells", "merge")]
    assert sections["overview"]["absent"] == expected
    notes = [note.partition(":")[0] for note in sections["overview"]["notes"]]
    assert notes == [f"The step {name} is not there" for name in expected]
    assert ("truth" in sections) == ("evaluate" not in missing)


def spoil_manifest(trial: Path) -> str:
    (trial / "stills" / "manifest.json").write_text("{")
    return "The step stills is damaged"


def spoil_by_not_finishing(trial: Path) -> str:
    (trial / "stills" / "manifest.json").unlink()
    return "The step stills is unfinished"


def test_a_run_in_which_nothing_was_indexed_shows_why(full_trial: Path, results_maker: Any, tmp_path: Path) -> None:
    """Such a run ends without a manifest, and leaves its table of shots and their spots."""
    outcomes = ["no_hit", "not_indexed", "not_indexed"]
    maker = results_maker(tmp_path / "lysozyme" / "002")
    maker.stills(outcomes, full_trial / "simulate" / "rank-00000.h5")
    (maker.trial / "stills" / "manifest.json").unlink()
    sections = sections_of(maker.trial, tmp_path / "out")
    assert sections["overview"]["absent"] == ["stills", "cells", "merge"]
    assert sections["shots"]["outcomes"] == {"not_indexed": 2, "no_hit": 1}
    assert sections["images"]["missed"]["n_spots_drawn"] == 7


def spoil_table(trial: Path) -> str:
    (trial / "stills" / "rank-00001_shots.jsonl").write_text('{"shot": 1}\n')
    return "rank-00001_shots.jsonl: cannot read the table of shots"


def spoil_spots_and_events(trial: Path) -> str:
    path = trial / "stills" / "events" / "rank-00000.events"
    path.write_bytes(path.read_bytes()[:300])
    (trial / "stills" / "rank-00000_strong.refl").write_bytes(b"no table")
    return "rank-00000_strong.refl"


def spoil_nothing_left(trial: Path) -> str:
    for path in (trial / "stills").glob("rank-*"):
        path.unlink()
    return "The step stills is finished, but 8 of 8 containers are missing"


SPOILERS = [spoil_manifest, spoil_by_not_finishing, spoil_table, spoil_spots_and_events, spoil_nothing_left]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_damage_costs_what_is_damaged_and_is_said(own_trial: Path, tmp_path: Path, spoil: Any) -> None:
    words = spoil(own_trial)
    sections = sections_of(own_trial, tmp_path / "out")
    notes = [note for section in sections.values() for note in section["notes"]]
    assert any(words in note for note in notes)
    assert sections["merge"]["cc_half"] == 0.955, "what is not damaged is there"


def test_what_another_version_wrote_costs_its_section_alone(own_trial: Path, tmp_path: Path) -> None:
    for step, key, other in (("cells", "clusters", [{"size": 3}]), ("merge", "shells", [{"n_unique": 3}])):
        path = own_trial / step / "manifest.json"
        manifest = json.loads(path.read_bytes())
        manifest["summary"][key] = other
        path.write_text(json.dumps(manifest))
    sections = sections_of(own_trial, tmp_path / "out")
    assert {"shots", "lattices", "truth"} <= set(sections)
    assert not {"cells", "merge"} & set(sections)
    notes = sections["overview"]["notes"]
    assert [note.split(" have ")[0] for note in notes] == [
        "Could not be read: the unit cells", "Could not be read: the merge statistics"
    ]  # fmt: skip


def test_simulated_images_are_found_where_the_results_were_moved(own_trial: Path, tmp_path: Path) -> None:
    """Tables of shots name images as they were given, which may be relative to another folder."""
    for path in (own_trial / "stills").glob("*_shots.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**row, "file": "elsewhere/rank-00000.h5"}) + "\n" for row in rows))
    sections = sections_of(own_trial, tmp_path / "out")
    assert sections["images"]["integrated"]["n_predicted"] == 10
    assert sections["images"]["notes"] == []


def test_images_that_are_gone_are_said_in_the_page(own_trial: Path, tmp_path: Path) -> None:
    for path in (own_trial / "stills").glob("*_shots.jsonl"):
        path.write_text(path.read_text().replace("rank-00000.h5", "gone.h5"))
    notes = sections_of(own_trial, tmp_path / "out")["images"]["notes"]
    assert len(notes) == 2
    assert "gone.h5[4], the integrated shot" in notes[0]
    assert "no such file" in notes[0]


def test_odd_numbers_and_texts_do_not_break_page_and_json(own_trial: Path, tmp_path: Path) -> None:
    path = own_trial / "stills" / "rank-00000_shots.jsonl"
    text = path.read_text()
    for good, odd in (('"d_min":2.0', '"d_min":NaN'), ("because of no_hit", "<script>alert(1)</script>")):
        assert good in text
        text = text.replace(good, odd)
    path.write_text(text)
    sections = sections_of(own_trial, tmp_path / "out")
    assert sections["lattices"]["d_min"]["n"] == 3, "of six lattices, three were on the other rank"
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_command_writes_beside_the_steps(own_trial: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["report", "--results", str(own_trial), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["absent"] == []
    assert (own_trial / "report" / "report.html").stat().st_size == summary["size_bytes"]


def test_a_folder_without_results_is_an_error_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["report", "--results", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"exafel: {tmp_path}: none of the folders")
    assert "Traceback" not in error
    with pytest.raises(InputError, match="no such folder"):
        report.request(ReportConfig(), [tmp_path / "absent"], tmp_path / "out")
