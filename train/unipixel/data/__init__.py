"""Training data: order of the samples, conversations, frames and tensors."""
