"""Held-out losses with running sums only, generation, and comparing runs."""
