"""Image checks of a run (see `models.canary`): which transport its models get, recorded in `run.json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evqa.models.canary import Canary, failure_message
from evqa.runs.ledger import RunLedger
from evqa.runs.run_folder import RUN, read_run_info, user_errors_of_disk, write_run_info
from evqa.schema import ImageCheck, ImageTransport

if TYPE_CHECKING:
    from evqa.runs.runner import Executor


def run(executor: Executor, folder: Path, ledger: RunLedger, roles: Sequence[str], canary: Canary) -> None:
    """Choose and record the transport of images in tool results to the models of some roles.

    The transport of earlier calls of the run stays. `ValueError`: a model does not see the images.
    """
    for role in roles:
        recorded = transports(read_run_info(folder).image_checks).get(role)
        check = executor.check_images(role, canary, recorded)
        ledger.add_checks([check])
        _record(folder, check)
        if check.outcome == "failed":
            raise ValueError(failure_message(check, is_resumed=recorded is not None))


def transports(checks: Sequence[ImageCheck]) -> dict[str, ImageTransport]:
    """Role -> transport that the predictions of a run got; failed checks have no predictions."""
    return {check.role: check.transport for check in checks if check.outcome != "failed"}


def merged(folders: Sequence[Path]) -> tuple[ImageCheck, ...]:
    """Checks of a run and its shards, each once. `ValueError`: their transports differ."""
    checks: list[ImageCheck] = []
    first: dict[str, tuple[ImageTransport, Path]] = {}
    for folder in (folder for folder in folders if (folder / RUN).is_file()):
        of_folder = read_run_info(folder).image_checks
        checks += [check for check in of_folder if check not in checks]
        for role, transport in transports(of_folder).items():
            expected, place = first.setdefault(role, (transport, folder))
            if transport != expected:
                raise ValueError(
                    f"{folder} is of another run than {place}: the model {role} got the images of tool results by "
                    f"{transport!r} and by {expected!r}; predict one of them again with --tool-images"
                )
    return tuple(checks)


def _record(folder: Path, check: ImageCheck) -> None:
    """Add a check to the description of a run; a check without requests that changes nothing is not repeated."""
    info = read_run_info(folder)
    if not check.attempts and check in info.image_checks:
        return
    with user_errors_of_disk(folder):
        write_run_info(folder, info.replace(image_checks=(*info.image_checks, check)))
