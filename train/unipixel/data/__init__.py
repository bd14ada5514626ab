"""What the model learns from: which sample comes when, and what it becomes as tensors."""
