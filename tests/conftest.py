"""What every test shares: how Hypothesis explores, and what a missing GPU means."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Without a deadline: a slow machine is no counterexample. Derandomised, so that a red run
# is red again; HYPOTHESIS_PROFILE=explore looks further and prints how to replay.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu say what they miss where there is no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch sees none"))
