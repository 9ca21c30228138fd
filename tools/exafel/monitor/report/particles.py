"""Sections of single-particle imaging: hits, convergence, resolution, density, orientations, classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from exafel.arrays import AnyArray, FloatArray
from exafel.errors import InputError
from exafel.io.mrc import read_mrc
from exafel.monitor.report.blocks import Fact, Facts, Figure, Numbers, Section, Table, text
from exafel.monitor.report.charts import COLOURS, SERIES, WIDE_INCHES, canvas, svg
from exafel.monitor.report.trial import StepFolder, Trial


def particle_sections(trial: Trial) -> list[Section]:
    """Make the sections of the steps of single-particle imaging that have finished."""
    sections = []
    if (hits := trial.finished("spi_hits")) is not None:
        sections.append(_hits(hits))
    if (step := trial.finished("spi_reconstruct")) is not None:
        truth = trial.finished("spi_evaluate")
        sections += [_convergence(step), _resolution(step, truth), _density(step), _images(step, truth)]
    return sections


def _hits(step: StepFolder) -> Section:
    section = Section("spi_hits", "Hits of single particles", numbers=dict(step.summary))
    labels = step.summary["labels"]
    rows = tuple((name.replace("_", " "), n, f"{n / step.summary['n_shots']:.1%}") for name, n in labels.items())
    section.add(
        Facts(
            (
                Fact("Shots", text(step.summary["n_shots"])),
                Fact("Hit rate", f"{step.summary['hit_rate']:.1%}"),
                Fact("Photons", text(step.summary["median_photons"]), "median of single hits"),
                Fact("Size", f"{step.summary['size_angstrom']:.0f} Å", "median of single hits, as spheres"),
            )
        ),
        Table("Shots by label", ("label", "shots", "share"), rows),
    )
    return section


def _convergence(step: StepFolder) -> Section:
    """Movement, score and the halves' agreement by generation."""
    summary = step.summary
    section = Section("spi_convergence", "Generations", numbers=dict(summary))
    generations = summary["generations"]
    number = [item["generation"] for item in generations]
    series = (
        ("d_angstrom", "resolution used (Å)", "blue"),
        ("half_d_angstrom", "halves agree to (Å)", "green"),
        ("median_move_deg", "median move (°)", "orange"),
    )
    alt = "Resolution, agreement of halves, and median change of orientations by generation."
    with canvas(WIDE_INCHES, 2.6) as figure:
        for axes, (key, label, colour) in zip(figure.subplots(1, 3), series, strict=True):
            values = [np.nan if item[key] is None else item[key] for item in generations]
            axes.plot(number, values, marker="o", markersize=3, color=COLOURS[colour])
            axes.set_ylabel(label)
            axes.set_xlabel("generation")
            axes.set_ylim(bottom=0)
        picture = svg(figure, "spi-generations", alt)
    columns = {"generation": number, **{key: [item[key] for item in generations] for key, _, _ in series}}
    caption = "From low resolution to high; a move is modulo the half-turn about the beam and the imposed symmetry."
    section.add(Figure(caption, alt, picture, Numbers("generations", columns), wide=True))
    head = ("class", "share", "R-factor", "halves: FSC 0.5 (Å)", "FSC 0.143 (Å)", "phase transfer 1/e (Å)")
    keys = ("number", "fraction", "r_factor", "fsc_half_angstrom", "fsc_half_0143_angstrom", "prtf_angstrom")
    rows = tuple(tuple(item[key] for key in keys) for item in summary["classes"])
    section.add(Table("Classes", head, rows))
    return section


def _resolution(step: StepFolder, truth: StepFolder | None) -> Section:
    """Fourier shell correlations and phase transfer."""
    section = Section("spi_resolution", "Resolution of the density")
    curves: list[tuple[str, Sequence[float], Sequence[float | None]]] = []
    stored = step.json("curves") or {"classes": []}
    for item in stored["classes"]:
        for key, label in (("fsc_half", "halves"), ("prtf", "phase transfer")):
            if item[key] is not None:
                curves.append((f"{label}, class {item['class']}", item[key]["s"], item[key]["value"]))
    known = truth.summary["densities"] if truth is not None else []
    curves += [(f"truth, conformation {item['conformation']}", item["s"], item["fsc"]) for item in known]
    if not curves:
        section.note("There are neither halves, nor several starts, nor a truth to compare with.")
        return section
    alt = "Fourier shell correlation and phase-retrieval transfer against resolution."
    with canvas(WIDE_INCHES, 3.0) as figure:
        axes = figure.subplots()
        for number, (label, s, value) in enumerate(curves):
            y = [np.nan if v is None else v for v in value]
            axes.plot(s, y, label=label, color=COLOURS[SERIES[number % len(SERIES)]])
        for level in (0.143, 0.5):
            axes.axhline(level, color=COLOURS["grey"], linewidth=0.8, linestyle=(0, (3, 2)))
        axes.set_xlabel("1 / resolution (1/Å)")
        axes.set_ylabel("correlation")
        axes.set_ylim(-0.1, 1.05)
        axes.legend()
        picture = svg(figure, "spi-fsc", alt)
    rows = [(label, a, b) for label, s, value in curves for a, b in zip(s, value, strict=True)]
    numbers = Numbers("curves", {key: [row[i] for row in rows] for i, key in enumerate(("curve", "s", "value"))})
    caption = "Fourier shell correlation of the halves and with the truth, and phase transfer between random starts."
    section.add(Figure(caption, alt, picture, numbers, wide=True))
    return section


def _density(step: StepFolder) -> Section:
    """Central slices and projections of every class."""
    section = Section("spi_density", "Density")
    for number, path in enumerate(step.files("density")):
        try:
            volume, voxel = read_mrc(path)
        except InputError as error:
            section.note(f"Could not be read: {error}.", warning=True)
            continue
        section.add(_pictures(number, volume, voxel))
    return section


def _pictures(number: int, volume: AnyArray, voxel: float) -> Figure:
    alt = f"Central slices and projections of class {number} along x, y and z."
    middle, reach = volume.shape[0] // 2, volume.shape[0] * voxel / 2
    with canvas(WIDE_INCHES, 4.2) as figure:
        grid = figure.subplots(2, 3)
        for axis, name in enumerate("xyz"):
            pictures = (np.take(volume, middle, axis=axis), volume.sum(axis=axis))
            for row, (picture, kind) in enumerate(zip(pictures, ("slice", "projection"), strict=True)):
                axes = grid[row][axis]
                extent = (-reach, reach, -reach, reach)
                axes.imshow(picture.T, origin="lower", cmap="Greys", extent=extent, vmin=0)
                axes.set_title(f"{kind} along {name}")
                axes.grid(visible=False)
        picture = svg(figure, f"spi-density-{number}", alt)
    profile = volume.sum(axis=(0, 1)).tolist()
    place = ((np.arange(len(volume)) - middle) * voxel).tolist()
    numbers = Numbers(f"density-{number}", {"z_angstrom": place, "density_in_plane": profile})
    return Figure(f"Class {number}: central slices and projections (Å).", alt, picture, numbers, wide=True)


def _images(step: StepFolder, truth: StepFolder | None) -> Section:
    """Where images look from, how their scales spread, and which class is which conformation."""
    section = Section("spi_images", "Orientations and classes")
    tables = [pd.read_csv(path) for path in step.files("images")]
    if tables:
        section.add(_views(tables[0]))
    if truth is not None:
        numbers = truth.summary
        section.numbers = dict(numbers)
        section.add(
            Facts(
                (
                    Fact("Orientation error", f"{numbers['orientation_median_deg']:.2f}°", "median, against the truth"),
                    Fact("Within 10°", f"{numbers['within_10_deg']:.1%}", f"of {text(numbers['n'])} images"),
                    Fact("Class accuracy", text(numbers["class_accuracy"]), "against the truth"),
                )
            )
        )
        if numbers["confusion"]:
            n = len(numbers["confusion"][0])
            head = ("conformation", *(f"class {kind}" for kind in range(n)))
            rows = tuple((kind, *row) for kind, row in enumerate(numbers["confusion"]))
            section.add(Table("Images by true conformation and class", head, rows))
    return section


def _views(table: pd.DataFrame) -> Figure:
    """Directions of the beam in the particle's frame, on an equal-area map."""
    alt = "Directions from which images see the particle, and their intensity scales."
    w, x, y, z = (table[f"q{axis}"].to_numpy() for axis in "wxyz")
    beam = np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)])  # third row of R
    longitude = np.degrees(np.arctan2(beam[1], beam[0]))
    limits = (np.linspace(-180, 180, 25), np.linspace(-1, 1, 13))
    counts, _, _ = np.histogram2d(longitude, beam[2], bins=limits)
    with canvas(WIDE_INCHES, 2.8) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(2, 1))
        left.imshow(counts.T, origin="lower", aspect="auto", cmap="Blues", extent=(-180, 180, -1, 1), vmin=0)
        left.set_xlabel("longitude of the view (°)")
        left.set_ylabel("cosine of the polar angle")
        left.grid(visible=False)
        right.hist(table["scale"], bins=30, color=COLOURS["blue"], alpha=0.75)
        right.set_xlabel("intensity scale")
        picture = svg(figure, "spi-views", alt)
    centres = _centres(limits[0]), _centres(limits[1])
    grid = np.stack(np.meshgrid(*centres, indexing="ij")).reshape(2, -1)
    columns = {"longitude_deg": grid[0], "cosine": grid[1], "images": counts.ravel().astype(int)}
    return Figure(
        "Views in bins of equal area, and scales of images.", alt, picture, Numbers("views", columns), wide=True
    )


def _centres(limits: FloatArray) -> FloatArray:
    return np.asarray((limits[1:] + limits[:-1]) / 2, dtype=np.float64)
