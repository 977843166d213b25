"""The transformers.Trainer subclass with the exact objective, checkpoints that survive anything, and what is logged."""
