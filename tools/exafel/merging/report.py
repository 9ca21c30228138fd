"""Merging statistics as text for terminals and logs."""

from __future__ import annotations

from collections.abc import Sequence

from exafel.merging.statistics import Shell

_COLUMNS = (
    ("d_max", 7), ("d_min", 7), ("unique", 8), ("compl. %", 9), ("n_obs", 9), ("mult.", 7), ("<I>", 10),
    ("<I/sig>", 8), ("raw", 7), ("CC1/2 %", 8), ("N", 7), ("Rsplit %", 9), ("Rint %", 8), ("CCiso %", 8),
)  # fmt: skip


def shell_table(shells: Sequence[Shell], total: Shell) -> str:
    """Statistics by resolution shell, one line a shell and one for all; `raw` is <I/sigma> of the observations."""
    lines = ["".join(f"{name:>{width}}" for name, width in _COLUMNS)]
    lines.extend(_line(shell) for shell in (*shells, total))
    lines.insert(-1, "")
    return "\n".join(lines)


def _line(shell: Shell) -> str:
    cells = (
        _number(shell.d_max, 2, "inf"),
        _number(shell.d_min, 2),
        str(shell.n_unique),
        _number(100 * shell.completeness, 1),
        str(shell.n_obs),
        _number(shell.multiplicity, 1),
        _number(shell.mean_i, 1),
        _number(shell.mean_i_over_sigma, 2),
        _number(shell.unmerged_i_over_sigma, 2),
        _percent(shell.cc_half),
        str(shell.n_half),
        _percent(shell.r_split),
        _percent(shell.r_int),
        _percent(shell.cc_iso),
    )
    return "".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, _COLUMNS, strict=True))


def _number(value: float | None, digits: int, missing: str = "-") -> str:
    return missing if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return _number(None if value is None else 100 * value, 1)
