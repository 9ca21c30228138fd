from __future__ import annotations

from exafel.merging.report import shell_table
from exafel.merging.statistics import Shell

SHELL = Shell(
    d_max=None, d_min=4.3089, n_possible=2048, n_unique=400, n_obs=4129, completeness=400 / 2048, multiplicity=10.3,
    mean_i=1090.7, mean_i_over_sigma=3.294, unmerged_i_over_sigma=18.99, n_half=344, cc_half=0.9507, r_split=0.227,
    r_int=0.328, half_scale=0.904, n_iso=0, cc_iso=None,
)  # fmt: skip


def test_a_table_has_a_line_a_shell_and_one_for_all() -> None:
    lines = shell_table([SHELL, SHELL.model_copy(update={"d_max": 4.3089, "d_min": 3.0})], SHELL).splitlines()
    assert len(lines) == 5
    text = "inf 4.31 400 19.5 4129 10.3 1090.7 3.29 18.99 95.1 344 22.7 32.8 -"
    assert " ".join(lines[1].split()) == text
    assert len({len(line) for line in lines if line}) == 1
