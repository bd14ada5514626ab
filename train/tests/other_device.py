"""A second device for a machine that has but one: its tensors are kept from those of the CPU, as on a GPU.

What lies there is computed by the CPU, with the same numbers. An operation that gets tensors of both places fails as
it does with CUDA (a single number, and an index, may come from the CPU); so does `numpy()` there. It goes by the name
of "meta", the one device that torch asks no driver about.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

OTHER = torch.device("meta")

aten = torch.ops.aten
INDEXED = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index)
"""Operations whose indices may lie on the CPU."""


class There(Tensor):
    """A tensor on the other device."""

    is_meta = False

    @staticmethod
    def __new__(cls, here: Tensor):
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        return Tensor._make_wrapper_subclass(cls, here.size(), device=OTHER, **layout)

    def __init__(self, here: Tensor) -> None:
        self.here = here

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def tolist(self):
        return self.here.tolist()

    def numpy(self, **_):
        raise TypeError("a tensor of the other device is no numpy array: copy it to the CPU first")

    __array__ = numpy


class _Operations(TorchDispatchMode):
    """Every operation, of either device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        with self:
            composed = func.decompose(*args, **kwargs)
        return _run(func, args, kwargs) if composed is NotImplemented else composed


class _Makers(TorchFunctionMode):
    """Functions that make a tensor of numbers: torch asks no one where those of "meta" are to lie."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is Tensor.new_tensor and isinstance(args[0], There):
            return There(args[0].here.new_tensor(*args[1:], **kwargs))
        if func in (torch.tensor, torch.as_tensor) and _is_other(kwargs.get("device")):
            return func(*args, **kwargs | {"device": "cpu"}).to(OTHER)
        return func(*args, **kwargs)


@contextmanager
def other_device() -> Iterator[torch.device]:
    """Within it, and in this thread, the other device is there; gradients are as without it, but for inference mode."""
    nothing = {"__enter__": lambda self: None, "__exit__": lambda self, *_: None}
    with mock.patch.multiple(torch.inference_mode, **nothing), _Operations(), _Makers():
        yield OTHER


def _run(func, args, kwargs):
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    theirs = [tensor for tensor in tensors if isinstance(tensor, There)]
    device = kwargs.get("device")
    is_there = bool(theirs) if device is None else _is_other(device)
    if func is aten._fused_sdp_choice.default and theirs:
        return 0  # attention without kernels that a device would have to have
    if func is not aten._to_copy.default and func is not aten.copy_.default:
        _check_together(func, theirs, [tensor for tensor in tensors if not isinstance(tensor, There)])
    here = {} if device is None else {"device": "cpu" if is_there else device}
    result = func(*tree_map(_here, args), **tree_map(_here, dict(kwargs)) | here)
    if not is_there:
        return args[0] if func is aten.copy_.default else result
    result = tree_map(lambda value: There(value) if isinstance(value, Tensor) else value, result)
    return return_and_correct_aliasing(func, args, kwargs, result) if theirs else result


def _check_together(func, theirs: list[There], ours: list[Tensor]) -> None:
    apart = [tuple(tensor.shape) for tensor in ours if tensor.dim()]
    if theirs and apart and func.overloadpacket not in INDEXED:
        shapes = [tuple(tensor.shape) for tensor in theirs]
        raise RuntimeError(f"{func} got tensors of two devices: {apart} on the CPU, {shapes} on the other")


def _here(value):
    return value.here if isinstance(value, There) else value


def _is_other(device) -> bool:
    return device is not None and torch.device(device) == OTHER
