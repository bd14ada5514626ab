"""What works in this environment and what does not, found without importing what may be broken."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import mmap
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement

from evqa import threads as evqa_threads
from evqa.files import roots
from evqa.hub import checkpoints
from evqa.masks import native

Level = Literal["ok", "note", "broken"]

CORE = ("numpy", "scipy", "pydantic", "tyro", "tqdm", "pillow", "deflate", "av", "pycocotools", "matplotlib")

Extras = dict[str, tuple[tuple[str, ...], str]]

EXTRAS: Extras = {
    "models": (("torch", "transformers", "safetensors"), "our model: predict, ask (tiny, unipixel-*, ...)"),
    "api": (("openai", "google-genai"), "models behind APIs: gpt-4o, gemini-2.5-pro, openai-compatible, ..."),
    "train": (("accelerate", "peft", "deepspeed", "tensorboard"), "fine-tuning: bash scripts/sft.sh"),
    "cluster": (("ray",), "predicting with several processes or machines: evqa predict --workers"),
}
"""Extra -> its packages, and what does not work without them."""

CUDA_LIBRARIES = (b"libtorch_cuda", b"libc10_cuda", b"libcudart")

GIB = 2**30
DISK_WANTED = 20 * GIB
"""Room for a 7B checkpoint with its masks and videos."""

IMPORTS = "from transformers import Qwen2_5_VLForConditionalGeneration, Sam2VideoModel, Trainer"
"""What our model and its training take from transformers."""

IMPORT_SECONDS = 180

TORCHVISION_BREAKS = (
    "`import torchvision` fails (operator torchvision::nms does not exist), and with it transformers' "
    "Trainer, Sam2VideoModel, Qwen2.5-VL; so our model neither answers nor trains; scoring and reports work"
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fact of the environment."""

    level: Level
    """"broken": it cannot work; "note": good to know."""
    what: str
    means: str = ""
    """What therefore works or does not."""
    fix: str = ""

    def text(self) -> str:
        """The finding for a reader."""
        parts = [f"{self.level:>6}  {self.what}"]
        parts += [f"{'':8}{line}" for line in (self.means, f"fix: {self.fix}" if self.fix else "") if line]
        return "\n".join(parts)


def diagnose(*, imports: bool = True) -> list[Finding]:
    """All findings. `imports` also tries transformers' imports in a process of its own (some seconds)."""
    findings = [
        _python(),
        *_core(),
        compiled_part(native.state()),
        *missing_extras(EXTRAS),
        *_torch(),
        _threads(evqa_threads.thread_policy()),
        *_torchvision(),
        *_transformers(),
    ]
    if imports and _version("torch") and _version("transformers"):
        findings.append(_try_imports())
    return [*findings, *_gpus(), *_video(), _disk(), *_roots(), *_checkpoints()]


def report(findings: Sequence[Finding]) -> str:
    """The findings as text, with a verdict at the end."""
    broken = sum(finding.level == "broken" for finding in findings)
    verdict = f"{broken} thing(s) broken" if broken else "nothing is broken"
    return "\n".join([*(finding.text() for finding in findings), verdict])


def _python() -> Finding:
    what = f"Python {platform.python_version()} in {sys.prefix}, {platform.system()} {platform.machine()}"
    return Finding(level="ok", what=what)


def _core() -> Iterator[Finding]:
    missing = [name for name in CORE if _version(name) is None]
    if missing:
        means = "evqa itself needs them"
        yield Finding(level="broken", what=f"missing: {', '.join(missing)}", means=means, fix="pip install -e .")
    else:
        yield Finding(level="ok", what="core packages: scoring, reports and video work")
    yield from _declared()


def compiled_part(state: native.State) -> Finding:
    """Whether masks are compared in C or in numpy."""
    if state == "compiled":
        return Finding(level="ok", what="compiled part: masks are compared in C")
    fixes = {
        "switched off": f"unset {native.SWITCH}",
        "not built": "install a C compiler (apt install gcc), then pip install -e .",
    }
    return Finding(
        level="note",
        what=f"compiled part: {state}",
        means="masks are compared in numpy: the same scores, some twenty times as slow",
        fix=fixes.get(state, "pip install -e . builds it again"),
    )


def _declared() -> Iterator[Finding]:
    """Versions against what the installed distribution asks for."""
    try:
        declared = importlib.metadata.requires("evqa") or []
    except importlib.metadata.PackageNotFoundError:
        means = "versions are not checked, and there is no command `evqa` (python -m evqa works)"
        yield Finding(level="note", what="evqa is not installed as a package", means=means, fix="pip install -e .")
        return
    wanted = {requirement.name: requirement for requirement in map(Requirement, declared)}
    wrong = [name for name, requirement in wanted.items() if not _satisfied(requirement)]
    for name in sorted(wrong):
        what = f"{name} {_version(name)}, where {wanted[name].specifier} is needed"
        means = "an untested version: what uses it may fail"
        yield Finding(level="broken", what=what, means=means, fix="pip install -r requirements.txt")


def _satisfied(requirement: Requirement) -> bool:
    """Whether the version that is installed will do; a package that is not installed is counted elsewhere."""
    version = _version(requirement.name)
    return version is None or requirement.specifier.contains(version, prereleases=True)


def missing_extras(extras: Extras) -> Iterator[Finding]:
    """For each extra whether its packages are here, and what does not work without them."""
    for extra, (packages, use) in extras.items():
        if missing := [name for name in packages if _version(name) is None]:
            what = f"extra {extra!r} is incomplete: no {', '.join(missing)}"
            fix = f'pip install torch==2.13.0 && pip install -e ".[{extra}]"'
            yield Finding(level="note", what=what, means=f"without it there is no {use}", fix=fix)
        else:
            yield Finding(level="ok", what=f"extra {extra!r}: {use}")


def _torch() -> Iterator[Finding]:
    version = _version("torch")
    if version is None:
        return
    cuda = has_cuda_build()
    build = "a CUDA build" if cuda else "a CPU build"
    means = "" if cuda else "models run on the CPU: right for tiny, very slow for 3B and 7B"
    yield Finding(level="ok" if cuda else "note", what=f"torch {version}, {build}", means=means)


def _threads(threads: evqa_threads.ThreadPolicy) -> Finding:
    means = f"models on the CPU compute with so many; {evqa_threads.THREADS}=N sets another number"
    if threads.reason.startswith(evqa_threads.THREADS):
        means = f"models on the CPU compute with so many; unset {evqa_threads.THREADS} to count the idle cores instead"
    return Finding(level="ok", what=f"threads for inference: {threads.number} ({threads.reason})", means=means)


def has_cuda_build() -> bool:
    """Whether the installed torch has its CUDA library, seen from its files."""
    folder = _folder("torch")
    return folder is not None and any((folder / "lib").glob("libtorch_cuda*"))


def _torchvision() -> Iterator[Finding]:
    version, folder = _version("torchvision"), _folder("torchvision")
    if version is None or folder is None:
        yield Finding(level="ok", what="no torchvision: none is needed")
        return
    uses_cuda = any(needs_cuda(library) for library in folder.glob("_C*.so"))
    if uses_cuda and not has_cuda_build():
        yield _broken_torchvision(f"torchvision {version} is built for CUDA beside a torch without it")
    elif (wanted := _torch_wanted_by_torchvision()) and not _satisfied(wanted):
        what = f"torchvision {version} is for torch{wanted.specifier}, not for {_version('torch')}"
        yield _broken_torchvision(what)
    else:
        yield Finding(level="ok", what=f"torchvision {version} fits torch (it is not needed)")


def _broken_torchvision(what: str) -> Finding:
    return Finding(
        level="broken",
        what=what,
        means=TORCHVISION_BREAKS,
        fix="pip uninstall -y torchvision (nothing here needs it)",
    )


def needs_cuda(library: Path) -> bool:
    """Whether a compiled library names CUDA's libraries of torch among what it loads."""
    if not library.stat().st_size:
        return False
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(name) >= 0 for name in CUDA_LIBRARIES)


def _torch_wanted_by_torchvision() -> Requirement | None:
    for text in importlib.metadata.requires("torchvision") or []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.name == "torch":
            return requirement
    return None


def _transformers() -> Iterator[Finding]:
    version = _version("transformers")
    if version is None:
        return
    if _version("flash-attn") is None:
        means = "attention runs in torch (sdpa): the same results, somewhat slower on a GPU"
        fix = 'on a CUDA machine: pip install --no-build-isolation "evqa[models,flash]"'
        yield Finding(level="ok", what=f"transformers {version}, no flash-attn", means=means, fix=fix)
    else:
        yield Finding(level="ok", what=f"transformers {version} with flash-attn {_version('flash-attn')}")


def _try_imports() -> Finding:
    command = (sys.executable, "-c", IMPORTS)
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=IMPORT_SECONDS)
    except subprocess.TimeoutExpired:
        means = "not known to be broken: the machine is busy, or its disk slow; try again"
        what = f"transformers' models were not imported in {IMPORT_SECONDS} s"
        return Finding(level="note", what=what, means=means)
    if result.returncode == 0:
        return Finding(level="ok", what="transformers' models import")
    last = (result.stderr.strip().splitlines() or ["no message"])[-1]
    return Finding(
        level="broken",
        what=f"transformers' models do not import: {last[:300]}",
        means="neither predict nor ask nor training works; scoring and reports do",
        fix="see the findings above; else pip install -r requirements.txt in a new environment",
    )


def _gpus() -> Iterator[Finding]:
    program = shutil.which("nvidia-smi")
    names = ""
    if program is not None:
        command = (program, "--query-gpu=name,memory.total", "--format=csv,noheader")
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        names = result.stdout.strip() if result.returncode == 0 else ""
    if not names:
        means = "3B and 7B models need one in practice; tiny does not"
        yield Finding(level="note", what="no NVIDIA GPU", means=means)
        return
    for line in names.splitlines():
        yield Finding(level="ok", what=f"GPU: {line}")
    if _version("torch") and not has_cuda_build():
        fix = "install torch's CUDA build: https://pytorch.org/get-started/locally"
        yield Finding(level="broken", what="a GPU beside a CPU torch", means="the GPU is not used", fix=fix)


def _video() -> Iterator[Finding]:
    if _version("av") is None:
        return
    import av.codec

    if "libx264" in av.codec.codecs_available:
        what = f"video: PyAV {_version('av')} reads and writes H.264; no ffmpeg is needed"
        yield Finding(level="ok", what=what)
    else:
        means = "predict, score and train work; overlays of `ask` and the synthetic data cannot be written"
        fix = "pip install --force-reinstall av"
        yield Finding(level="broken", what="PyAV has no H.264 encoder", means=means, fix=fix)


def _disk() -> Finding:
    usage = shutil.disk_usage(Path.cwd())
    what = f"{usage.free / GIB:.0f} GiB free in {Path.cwd()}"
    if usage.free >= DISK_WANTED:
        return Finding(level="ok", what=what)
    means = f"a 7B checkpoint with its data wants about {DISK_WANTED // GIB} GiB; tiny wants little"
    return Finding(level="note", what=what, means=means)


def _checkpoints() -> Iterator[Finding]:
    here: list[str] = []
    absent: list[str] = []
    for name in checkpoints.CHECKPOINTS:
        try:
            (absent if checkpoints.find_checkpoint(name) is None else here).append(name)
        except ValueError as error:
            fix = roots.download_command(name)
            yield Finding(level="note", what=str(error), means=f"{name} cannot be loaded", fix=fix)
    places = ", ".join(map(str, roots.searched(roots.MODELS)))
    means = f"searched too: the Hugging Face cache {roots.hub_cache()}"
    yield Finding(level="note", what=f"checkpoints in {places}: {', '.join(here) or 'none'}", means=means)
    if absent:
        yield Finding(level="note", what=f"not here: {', '.join(absent)}", fix=roots.download_command("NAME"))


def _roots() -> Iterator[Finding]:
    for what, root in (("data sets", roots.DATA), ("runs", roots.OUTPUTS)):
        places = roots.searched(root) if root is roots.DATA else (roots.writable(root),)
        text = ", ".join(str(place) for place in places)
        yield Finding(level="note", what=f"{what} in {text}", means=f"{root.variable} names another folder")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _folder(name: str) -> Path | None:
    """The folder of a package, without importing it."""
    found = importlib.util.find_spec(name)
    return Path(found.origin).parent if found and found.origin else None
