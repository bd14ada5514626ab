"""Safe reader of published pickles: an interpreter of the instructions for plain containers, without code execution.

A pickle is a program, and `pickle.load` runs it: a malicious file can execute any code. Some data sets exist only as
pickles of dicts, lists, tuples, texts, bytes and numbers. This reader accepts the instructions for these (all
protocols, also of Python 2) and refuses all others; it can neither import a name nor call one.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import IO, cast

MAX_BYTES = 2**32
"""Limit of a file."""

Plain = object
"""dict, list, tuple, str, bytes, int, float, bool or None, nested."""


class _Mark:
    """Marker of the start of a group of values on the stack."""


_MARK = _Mark()

_PUSHED = {
    "INT",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG",
    "LONG1",
    "LONG4",
    "STRING",
    "BINSTRING",
    "SHORT_BINSTRING",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
    "UNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE",
    "BINUNICODE8",
    "FLOAT",
    "BINFLOAT",
}
"""Instructions that push their argument."""

_CONSTANTS: dict[str, Callable[[], Plain]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list[Plain],
    "EMPTY_DICT": dict[Plain, Plain],
    "EMPTY_TUPLE": tuple[Plain, ...],
    "MARK": lambda: _MARK,
}

_IGNORED = {"PROTO", "FRAME"}


class _Encode:
    """Placeholder of `_codecs.encode`, with which Python 3 writes bytes in the oldest protocols; it is never called."""


_ENCODE = _Encode()


class _Bounded:
    """File whose reads are limited to its size, so that no length in it reserves memory."""

    def __init__(self, file: BufferedReader, size: int) -> None:
        self._file = file
        self._size = size

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, self._size))

    def readline(self) -> bytes:
        return self._file.readline(self._size)

    def tell(self) -> int:
        return self._file.tell()


def read(path: Path) -> Plain:
    """Read a pickle of plain containers; any other instruction is a `ValueError` that names it."""
    try:
        with path.open("rb") as file:
            return _Machine().run(cast("IO[bytes]", _Bounded(file, _size(path))))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): fetch it (see README.md there)") from error
    except (ValueError, TypeError, IndexError, KeyError, AssertionError, MemoryError) as error:
        raise ValueError(f"{path} is no pickle of plain containers: {error}") from error


def _size(path: Path) -> int:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"the file has {size} bytes, expected at most {MAX_BYTES}")
    return size


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Plain] = []
        self.memo: dict[int, Plain] = {}

    def run(self, file: IO[bytes]) -> Plain:
        for instruction, argument, position in pickletools.genops(file):
            name = instruction.name
            if name == "STOP":
                if len(self.stack) != 1:
                    raise ValueError(f"{len(self.stack)} values are left at its end, expected 1")
                return self.stack[0]
            if name in _PUSHED:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in _ACTIONS:
                _ACTIONS[name](self, argument)
            elif name not in _IGNORED:
                raise ValueError(f"it asks for {name} at byte {position}, which plain containers never need")
        raise ValueError("it breaks off")

    def group(self) -> list[Plain]:
        """Pop the values above the last mark, and the mark."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("a group without a start")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def put(self, argument: Plain) -> None:
        self.memo[len(self.memo) if argument is None else int(cast(int, argument))] = self.stack[-1]

    def get(self, argument: Plain) -> None:
        self.stack.append(self.memo[int(cast(int, argument))])

    def append(self, values: list[Plain]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise TypeError(f"something is appended to a {type(target).__name__}")
        cast("list[Plain]", target).extend(values)

    def set(self, values: list[Plain]) -> None:
        target = self.stack[-1]
        kind = type(target).__name__
        if not isinstance(target, dict) or len(values) % 2:
            raise TypeError(f"{len(values)} values are set in a {kind}")
        cast("dict[Plain, Plain]", target).update(zip(values[::2], values[1::2], strict=True))

    def name(self, argument: Plain) -> None:
        if argument != "_codecs encode":
            raise ValueError(f"it asks for {argument!r}, and nothing is imported")
        self.stack.append(_ENCODE)

    def bytes_of(self, called: list[Plain]) -> bytes:
        match called:
            case [_Encode(), (str(text), "latin1")]:
                return text.encode("latin-1")
            case _:
                raise ValueError("it asks for a call, and nothing is called")

    def take(self, count: int) -> list[Plain]:
        if len(self.stack) < count:
            raise IndexError("its stack is empty")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values


def _grouped_dict(machine: _Machine) -> Plain:
    values = machine.group()
    return dict(zip(values[::2], values[1::2], strict=True))


_ACTIONS: dict[str, Callable[[_Machine, Plain], None]] = {
    "PUT": lambda machine, argument: machine.put(argument),
    "BINPUT": lambda machine, argument: machine.put(argument),
    "LONG_BINPUT": lambda machine, argument: machine.put(argument),
    "MEMOIZE": lambda machine, _: machine.put(None),
    "GET": lambda machine, argument: machine.get(argument),
    "BINGET": lambda machine, argument: machine.get(argument),
    "LONG_BINGET": lambda machine, argument: machine.get(argument),
    "APPEND": lambda machine, _: machine.append(machine.take(1)),
    "APPENDS": lambda machine, _: machine.append(machine.group()),
    "SETITEM": lambda machine, _: machine.set(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.set(machine.group()),
    "LIST": lambda machine, _: machine.stack.append(machine.group()),
    "DICT": lambda machine, _: machine.stack.append(_grouped_dict(machine)),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.group())),
    "TUPLE1": lambda machine, _: machine.stack.append(tuple(machine.take(1))),
    "TUPLE2": lambda machine, _: machine.stack.append(tuple(machine.take(2))),
    "TUPLE3": lambda machine, _: machine.stack.append(tuple(machine.take(3))),
    "GLOBAL": lambda machine, argument: machine.name(argument),
    "REDUCE": lambda machine, _: machine.stack.append(machine.bytes_of(machine.take(2))),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
}
