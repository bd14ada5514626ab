"""UniPixel: a Qwen2.5-VL whose `<|seg|>` tokens prompt a SAM 2 mask decoder, for the task of `evqa`."""
