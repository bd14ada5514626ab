"""Prompts of the stages. None of them is given the ground truth; those without a question are shared by a video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from evqa.schema import Span

STAGE_PROMPT_VERSION = 1
"""Part of a run's identity and of the cache; raised with every change of a text below."""

SYSTEM = (
    "You analyse a long video from some of its frames. Each frame follows its time in seconds of the video. "
    "All times are seconds of the whole video."
)


@dataclass(frozen=True, kw_only=True)
class StageInputs:
    """All that a stage knows."""

    duration: float
    """Length of the video in seconds."""
    window: Span
    """Part of the video that the stage is about."""
    question: str = ""
    """Question with its options; "" for a stage that does not depend on it."""
    seconds: Sequence[float] = ()
    """Times of the frames that the stage sees."""
    segments: Sequence[Span] = ()
    """Segments that it is asked about."""
    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Name of an earlier stage -> its text."""


Prompt = Callable[[StageInputs], str]


def segment_text(span: Span) -> str:
    """A segment as prompts write it and as replies are asked to repeat it."""
    return f"{span.start:.6g}s - {span.end:.6g}s"


def understanding(inputs: StageInputs) -> str:
    """Scenario and process stages of a video."""
    return f"""{_frames(inputs)}
What happens in the video as a whole? Write the scenario in one line. Then list the stages of the process, in order, one
a line: NUMBER. NAME: what is done in it."""


def segmentation(inputs: StageInputs) -> str:
    """Process stages at the ends of each segment between frames."""
    return f"""{_frames(inputs)}
The process and its stages:
{inputs.texts["understanding"]}

For each segment below write one line: START - END: [stage at its start] -> [stage at its end]. Use the names above.
{_numbered(inputs.segments)}"""


def labelling(inputs: StageInputs) -> str:
    """Segments with their stages from dense frames."""
    return f"""{_frames(inputs)}
Divide the video into segments by what is done. Write the scenario in one line, then for each segment one line:
[START s] - [END s]: [what is done]. The segments cover the video and do not overlap."""


def selection(inputs: StageInputs) -> str:
    """Segments that answer a question, from the text of the segmentation."""
    return f"""{_earlier(inputs)}
Question: {inputs.question}

What has to be seen to answer it? Write that in one line. Then list the segments of the video in which it is seen, the
likeliest first, one a line: START s - END s: reason. They may be shorter than those above. If there is none, write:
No segment is relevant."""


def relevance(inputs: StageInputs) -> str:
    """Verdict and confidence for each segment."""
    return f"""{_earlier(inputs)}{_frames(inputs) if inputs.seconds else ""}
Question: {inputs.question}

Required evidence: what has to be seen to answer it, in one line. Then judge each of these segments:
{_numbered(inputs.segments)}

For each write:
NUMBER. START s - END s:
Relevant: what speaks for it
Irrelevant: what speaks against it
Confidence Score: 0 to 10
Verdict: Relevant or Irrelevant"""


def single_answer(inputs: StageInputs) -> str:
    """Segments and answer in one turn."""
    return f"""{_frames(inputs)}
Question: {inputs.question}

List the segments of the video in which the answer is seen, the likeliest first, one a line: START s - END s: reason.
Then write one line: Answer: ANSWER. Where the frames do not show it, write: Answer: Not enough information."""


def verification(inputs: StageInputs) -> str:
    """Check of one candidate segment."""
    return f"""{_frames(inputs)}
Question: {inputs.question}

Is the answer seen between {segment_text(inputs.window)}? Write:
1. {segment_text(inputs.window)}:
Confidence Score: 0 to 10
Verdict: Relevant or Irrelevant"""


def ranking(inputs: StageInputs) -> str:
    """Order of several candidate segments."""
    return f"""{_frames(inputs)}
Question: {inputs.question}

Candidate segments:
{_numbered(inputs.segments)}

In which of them is the answer seen? Write the numbers of all candidates, the likeliest first, in one line:
Ranking: NUMBERS with commas between them"""


def answer(inputs: StageInputs) -> str:
    """Answer from the frames of the selected segments."""
    return f"""{_frames(inputs)}
The frames are of {segment_text(inputs.window)} of the video.
Question: {inputs.question}

Answer in a short phrase, in one line: Answer: ANSWER. Where the frames do not show it, write: Answer: Not enough
information."""


def _frames(inputs: StageInputs) -> str:
    number = len(inputs.seconds)
    frames = f"{number} frame{'' if number == 1 else 's'}" if number else "no frames"
    return f"You have {frames} of a video of {inputs.duration:.6g} seconds."


def _earlier(inputs: StageInputs) -> str:
    texts = "\n\n".join(text.strip() for text in inputs.texts.values())
    return f"The video lasts {inputs.duration:.6g} seconds. Its process and segments:\n{texts}\n" if texts else ""


def _numbered(segments: Sequence[Span]) -> str:
    return "\n".join(f"{number}. {segment_text(span)}" for number, span in enumerate(segments, 1))
