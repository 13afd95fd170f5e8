"""The training loop, built on Accelerate."""
