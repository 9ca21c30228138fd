"""Kinds of environment: how the software reaches the node that a rank runs on."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import Field

from exafel.config.base import Model

# What a step inside a container finds its image by, for its manifest.
IMAGE_VARIABLE = "EXAFEL_IMAGE"

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class VenvEnvironment(Model):
    """As installed, on a file system that all nodes see."""

    type: Literal["venv"] = "venv"


class TarballEnvironment(Model):
    """Packed once, broadcast to each node's own disk once a job, run from there."""

    type: Literal["tarball"] = "tarball"
    archive: str = Field(".exafel/env", description="Folder for the archive, on a file system that all nodes see.")
    node_local: tuple[str, ...] = Field(description="Where it is unpacked on a node, the first that has room.")
    shared: str = Field(".exafel/env/shared", description="Where it is unpacked once if no disk of a node can take it.")
    compress: str | None = Field(None, description="sbcast --compress. The archive is compressed already.")


class _Container(Model):
    image: str = Field(description="Name of the image.")
    digest: Digest | None = Field(None, description="Its digest: what runs is what was tested. Empty: not pinned.")
    volumes: tuple[str, ...] = Field((), description="Folders of the host that the container sees, as HOST:CONTAINER.")
    options: tuple[str, ...] = Field((), description="Other options of the run command.")

    @property
    def reference(self) -> str:
        """Name by digest, where one is pinned."""
        return self.image if self.digest is None else f"{self.image.split(':')[0]}@{self.digest}"


class PodmanHpcEnvironment(_Container):
    """A container by podman-hpc, or by podman where `program` says so."""

    type: Literal["podman-hpc"] = "podman-hpc"
    program: str = Field("podman-hpc", description="Program that runs containers.")
    mpi: bool = Field(True, description="--mpi: the site's MPI inside.")
    gpu: bool = Field(True, description="--gpu for steps with GPUs.")

    def command(self, *, gpus: bool) -> list[str]:
        """Words in front of a command that is to run inside."""
        switches = (["--mpi"] if self.mpi else []) + (["--gpu"] if self.gpu and gpus else [])
        volumes = [word for item in self.volumes for word in ("--volume", os.path.expandvars(item))]
        told = ["--env", f"{IMAGE_VARIABLE}={self.reference}"]
        return [self.program, "run", "--rm", *switches, *volumes, *told, *self.options, self.reference]


class ApptainerEnvironment(_Container):
    """A container by Apptainer."""

    type: Literal["apptainer"] = "apptainer"
    gpu_option: Literal["--nv", "--rocm"] = Field("--nv", description="Vendor's switch for steps with GPUs.")

    def command(self, *, gpus: bool) -> list[str]:
        """Words in front of a command that is to run inside."""
        volumes = [word for item in self.volumes for word in ("--bind", os.path.expandvars(item))]
        words = ["apptainer", "exec", *([self.gpu_option] if gpus else []), *volumes]
        return [*words, "--env", f"{IMAGE_VARIABLE}={self.reference}", *self.options, self.reference]


class ShifterEnvironment(_Container):
    """A container by Shifter."""

    type: Literal["shifter"] = "shifter"

    def command(self, *, gpus: bool) -> list[str]:
        """Words in front of a command that is to run inside."""
        modules = ["--module=mpich,gpu" if gpus else "--module=mpich"]
        volumes = [f"--volume={os.path.expandvars(item)}" for item in self.volumes]
        told = f"--env={IMAGE_VARIABLE}={self.reference}"
        return ["shifter", f"--image={self.reference}", *modules, *volumes, told, *self.options]


ContainerEnvironment = PodmanHpcEnvironment | ApptainerEnvironment | ShifterEnvironment
Environment = Annotated[
    VenvEnvironment | TarballEnvironment | PodmanHpcEnvironment | ApptainerEnvironment | ShifterEnvironment,
    Field(discriminator="type"),
]
