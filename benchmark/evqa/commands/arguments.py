"""Arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

DataName = Positional[Annotated[str, arg(metavar="DATA")]]
ModelName = Positional[Annotated[str, arg(metavar="MODEL")]]
RunPath = Positional[Annotated[Path, arg(metavar="RUN")]]
Folder = Annotated[Path | None, arg(metavar="FOLDER")]
Number = Annotated[int | None, arg(metavar="N")]
Name = Annotated[str | None, arg(metavar="NAME")]
ModeChoice = Literal["separate", "concat", "both"]
