"""Base class of all records, their version, ids and option letters."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

VERSION = 1
"""Version of the records; a file of another version is refused."""


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Option letters in display order."""


OMIT_NONE = Field(exclude_if=lambda value: value is None)
"""Field that is not written to a file where it is None."""
OMIT_EMPTY = Field(exclude_if=lambda value: not value)
"""Field that is not written to a file where it is empty."""


class StrictRecord(BaseModel):
    """Frozen record that refuses unknown fields, NaN and infinity.

    Some fields have another name in files than in code (`Field(alias=...)`): records are written with the name of the
    file format, and accept both names.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
    )

    def replace(self, **fields: object) -> Self:
        """A copy with other values of some fields, by their names in code; the values are not validated.

        Raises:
            TypeError: there is no such field.
        """
        if unknown := fields.keys() - type(self).model_fields.keys():
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        return self.model_copy(update=fields)


def check_id(name: str) -> str:
    """Return an id that can be a file name on any system; raise a `ValueError` for any other.

    It has 1 to 200 characters, no separators or control characters, and no leading dot.
    """
    if not 0 < len(name) <= 200 or name.startswith(".") or any(c in '/\\:*?"<>|' or ord(c) < 32 for c in name):
        raise ValueError(f'an id has 1-200 characters, none of / \\ : * ? " < > | and no leading dot, got {name!r}')
    return name


Id = Annotated[str, AfterValidator(check_id)]
"""Id of a record, usable as a file name."""
