"""Back-ends: what they make of their settings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np  # noqa: F401 - loads the library of linear algebra
import pytest
from threadpoolctl import threadpool_info

from exafel.spi.backend import cpu_backend


@pytest.fixture(autouse=True)
def _one_thread_again() -> Iterator[None]:
    yield
    cpu_backend(1)


@pytest.mark.parametrize("threads", [2, 1])
def test_matrix_products_have_the_threads_of_the_rank(threads: int) -> None:
    cpu_backend(threads)
    assert {item["num_threads"] for item in threadpool_info() if item["user_api"] == "blas"} == {threads}
