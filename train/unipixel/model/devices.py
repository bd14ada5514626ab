"""Selection of a torch device by name."""

from __future__ import annotations

import torch


def select_device(name: str) -> torch.device:
    """Return a device by name; "auto" = a GPU if available, else the CPU.

    Raises:
        ValueError: the device cannot be used.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used, expected cpu, cuda or auto: {reason}") from error
