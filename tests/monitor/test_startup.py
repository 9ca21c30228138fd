"""Start-up times: from the manifests of steps to the table, the section and the command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from exafel.cli.main import run as exafel
from exafel.errors import InputError
from exafel.io.manifest import Manifest, write_manifest
from exafel.monitor.report.startup import startup_section
from exafel.monitor.report.trial import find_steps, read_trial
from exafel.monitor.startup import manifests_below, startup_table


def trial(folder: Path, step: str, nodes: int, *, launch: float | None = None) -> Path:
    """Write the manifest of a step on so many nodes, two ranks each; rank r took r seconds to import."""
    ranks = [
        {
            "rank": rank,
            "host": f"node{rank // 2}",
            "startup_s": {"imports": float(rank), "mpi": 0.5, **({} if launch is None else {"launch": launch})},
        }
        for rank in range(2 * nodes)
    ]
    (folder / step).mkdir(parents=True)
    write_manifest(
        folder / step,
        Manifest(
            step=step,
            engine_version="0.1.0",
            software_version="0.1.0",
            config={},
            fingerprint="f" * 64,
            timings_s={"ranks": ranks},
            host={"environment": "code-1"},
            finished="2026-11-23T05:10:00+00:00",
        ),
    )
    return folder


def test_a_row_a_step_by_nodes(tmp_path: Path) -> None:
    trial(tmp_path / "b", "stills", 4, launch=2.0)
    trial(tmp_path / "a", "merge", 1)
    table = startup_table(manifests_below([tmp_path]))
    assert table[["step", "environment", "nodes", "ranks"]].to_numpy().tolist() == [
        ["merge", "code-1", 1, 2],
        ["stills", "code-1", 4, 8],
    ]
    assert table["imports"].tolist() == [0.5, 3.5]
    assert table["imports_largest"].tolist() == [1.0, 7.0]
    assert table["total_largest"].tolist() == [1.5, 9.5]
    assert table["launch"].isna().tolist() == [True, False]
    assert table["first_image"].isna().all()


def test_the_report_shows_them(tmp_path: Path) -> None:
    section = startup_section(read_trial(find_steps([trial(tmp_path / "set" / "000", "stills", 3, launch=2.0)])))
    assert section is not None
    figure, table = section.blocks
    assert table.rows == (("stills", 3, 6, "2.00 – 2.00", "2.50 – 5.00", "0.50 – 0.50", "–", 7.5),)
    assert "interpreter and imports" in figure.svg
    assert section.as_json()["figures"]["startup"]["imports_largest"] == [5.0]


def test_the_command_prints_and_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial(tmp_path / "set", "stills", 2)
    trial(tmp_path / "other", "stills", 8)
    picture = tmp_path / "startup.svg"
    assert exafel(["facility", "startup", str(tmp_path), "--plot", str(picture)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["step", "nodes", "ranks", "launch", "imports"]
    assert [row.split()[:3] for row in rows] == [["stills", "2", "4"], ["stills", "8", "16"]]
    assert re.search(r"<svg", picture.read_text())
    assert exafel(["facility", "startup", str(tmp_path), "--json"]) == 0
    assert [row["nodes"] for row in json.loads(capsys.readouterr().out)] == [2, 8]


def test_bad_input_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="no finished step"):
        manifests_below([tmp_path])
    with pytest.raises(InputError, match="no such folder"):
        manifests_below([tmp_path / "absent"])
    trial(tmp_path, "stills", 1)
    assert exafel(["facility", "startup", str(tmp_path), "--plot", "startup.doc"]) == 2
    assert "a picture is .svg, .png or .pdf" in capsys.readouterr().err
