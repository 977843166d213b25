"""hidden states + lm_head -> per-token losses: the only place that shifts, masks and upcasts."""
