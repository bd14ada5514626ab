"""UniPixel: a Qwen2.5-VL whose `<|seg|>` tokens prompt a SAM 2 mask decoder, for the task of `evqa`."""

import logging


def _concerns_the_user(record: logging.LogRecord) -> bool:
    """False for DeepSpeed's warning that it found no GPU, which `evqa doctor` and the run itself state."""
    return "Setting accelerator to CPU" not in record.getMessage()


logging.getLogger("DeepSpeed").addFilter(_concerns_the_user)  # holds before DeepSpeed is imported, which prints it
