"""Parameters of the stage2 step, which refines the structure factors against the pixels of all shots."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from exafel.config.base import Model


class Stage2Config(Model):
    """Parameters of the stage2 step."""

    shoebox_px: int = Field(13, ge=7, le=51, description="Side of the box of pixels around each predicted reflection.")
    max_sigma_z: float = Field(4.0, gt=1, description="Shots that stage 1 left with a higher sigma(Z) are not used.")
    held_out: float = Field(0.05, ge=0, le=0.5, description="Part of the pixels kept out, to see when to stop.")
    seed: int = Field(1, ge=0, description="Seed of the choice of held-out pixels, with the number of the shot.")
    ln_f_sigma: float | None = Field(
        1.0, gt=0, description="Standard deviation of a restraint of ln F to its start; None: no restraint."
    )
    max_iterations: int = Field(100, ge=0, description="Iterations of L-BFGS at the most.")
    gradient_tolerance: float = Field(
        0.05, gt=0, description="Converged where no ln F would move by more than this part of its standard deviation."
    )
    patience: int = Field(
        10, ge=1, description="Iterations without a better likelihood of the held-out pixels after which to stop."
    )
    lbfgs_memory: int = Field(10, ge=1, le=100, description="Pairs of steps and gradients that L-BFGS keeps.")
    checkpoint_every: int = Field(5, ge=1, description="Iterations between checkpoints.")
    snapshots: bool = Field(True, description="Keep the amplitudes of every iteration, for evaluate's figures D and E.")
    memory_gb: float = Field(
        4.0, gt=0, description="Memory of a rank for shots; those past it are computed anew in every iteration."
    )
    device: Literal["cpu", "gpu"] = Field("cpu", description="Where iterations are computed; gpu needs CuPy.")
    threads: int = Field(1, ge=1, description="Threads of a rank; results do not depend on them.")
