"""per-token losses -> the loss of one optimizer step.

An objective is one module of this package plus one line in the table below. It has `Options` (its recipe options),
`SOURCE` and

    local_loss(tokens, step, options) -> LocalTerms    this micro-batch's share; the step's shares add up to the loss

and, where it needs them,

    mixing_weight(options, progress) -> float          for the log
    head_terms(options) -> names                       further per-token quantities of the loss head (losses/head.py)
    token_columns(options) -> names                    columns of the scored rows that reach `tokens.columns`
    source_columns(options), source_row_columns(options)   columns of the user's data: one number per token, per row
    reference(options) -> name or None                 a frozen model: for `reference_nll`, or live for `reference_kl`
    needs_step(options), local_statistics(tokens, options)   statistics of the whole step before any weight is known
    needs_micro_batch(options) -> bool                 all losses of a micro-batch in one call, not chunk by chunk
    initial_state(options, num_groups, facts), next_state(state, losses_G, options)   what is kept from step to step

`group_losses.py` holds what they share.
"""

from __future__ import annotations

METHODS: dict[str, str] = {
    "sft_go": "(1 - w) cross-entropy + w worst group per sample (SFT-GO, arXiv 2506.15021)",
    "cross_entropy": "token-mean cross-entropy: standard supervised fine-tuning",
    "rho1": "only the tokens whose loss exceeds a reference model's most (Rho-1, arXiv 2404.07965)",
    "selected": "only the tokens of some groups (static Rho-1; STM, arXiv 2501.14315; Token Cleaning, arXiv 2502.01968)",
    "dft": "each token weighted by its probability (DFT, arXiv 2508.05629)",
    "asft": "DFT held to a reference model by a KL divergence (ASFT, arXiv 2509.23753)",
    "eaft": "each token weighted by the model's entropy there (EAFT, arXiv 2601.02151)",
    "profit": "only tokens that the model finds possible (ProFit, arXiv 2601.09195)",
    "beyond_ll": "(1 - p^a) / a, between -log p and -p (arXiv 2510.00526)",
    "focal": "easy tokens weigh little (focal loss, arXiv 1708.02002)",
    "ual": "label smoothing by each row's uncertainty (UAL, arXiv 2406.04854)",
}
