"""SAM 2.1 over time: encoder, memory, tracker, streaming, prompts, weights."""
