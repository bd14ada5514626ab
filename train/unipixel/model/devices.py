"""Where a model computes, by name."""

from __future__ import annotations

import torch


def select_device(name: str) -> torch.device:
    """The device of a name, "auto" = a GPU where there is one; a `ValueError` where nothing can lie on it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used here, give cpu, cuda or auto: {reason}") from error
