"""Any architecture of the installed transformers as a model of a few thousand parameters with random weights.

The configuration is the class's own default with its sizes made small: numbers by their attribute's name, lists with one
entry per layer by one layer of each kind, nested configurations likewise. What a class needs beyond that stands in `OWN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sftgo_cli.base_model import language_model_class

HIDDEN, HEADS, KEY_VALUE_HEADS, HEAD, EXPERTS = 32, 4, 2, 8, 4
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers")
SIZES: dict[str, int] = {
    name: size
    for size, names in (
        (
            HIDDEN,
            """hidden_size d_model n_embd emb_dim embed_dim embedding_size hidden_dim backbone_hidden_size lru_width dim
            word_embed_proj_dim attention_hidden_size out_hidden_size output_dim dim_model_base embedding_dim out_dim
            input_embedding_size output_embedding_size vision_output_dim hidden_size_global projector_input_dim
            projector_output_dim conv_output_size multi_modal_hidden_size""",
        ),
        (
            2,
            " ".join(
                (*LAYERS, "num_decoder_layers num_encoder_layers depth num_global_layers n_langs type_vocab_size")
            ),
        ),
        (
            HEADS,
            """num_attention_heads n_head n_heads num_heads decoder_attention_heads attention_heads num_lstm_heads
            encoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads conf_num_attention_heads
            swa_num_attention_heads index_n_heads linear_num_value_heads linear_num_heads""",
        ),
        (
            KEY_VALUE_HEADS,
            """num_key_value_heads num_kv_heads kv_n_heads swa_num_key_value_heads linear_num_key_heads
            num_query_groups""",
        ),
        (
            HEAD,
            """head_dim qk_rope_head_dim qk_nope_head_dim v_head_dim dim_head d_head kv_channels d_kv linear_key_head_dim
            linear_value_head_dim linear_head_dim swa_head_dim swa_v_head_dim mamba_head_dim mamba_d_head mamba_headdim
            attention_head_size global_head_dim d_rel ssm_state_size rotary_dim laurel_rank hidden_size_per_layer_input
            adapter_rank mamba_n_heads mamba_num_heads n_mamba_heads""",
        ),
        (
            2 * HIDDEN,
            """intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim n_inner ffn_hidden_size dim_ff dff d_ff d_inner
            moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size intermediate_size_mlp mlp_dim
            feed_forward_size expert_ffn_hidden_size dense_intermediate_size shared_experts_intermediate_size
            moe_shared_expert_intermediate_size mamba_d_ssm""",
        ),
        (EXPERTS, "num_experts n_routed_experts num_local_experts moe_num_experts router_hidden_size"),
        (2, "num_experts_per_tok num_experts_per_token moe_topk moe_top_k moe_k"),
        (1, "n_group num_expert_group topk_group mamba_n_groups n_groups mamba_ngroups"),
        (16, "q_lora_rank kv_lora_rank o_lora_rank index_head_dim state_size mamba_d_state patch_size"),
        (
            8,
            "sliding_window sliding_window_size attention_chunk_size attention_window_size window_size local_attention",
        ),
        (8, "chunk_size mamba_chunk_size"),
        (256, "max_position_embeddings n_positions n_ctx max_seq_len max_target_positions seq_length"),
        (HIDDEN, "image_size crop_size"),
        (1, "first_k_dense_replace num_dense_layers moe_layer_start_index num_kv_shared_layers"),
        (0, "num_nextn_predict_layers layerdrop decoder_layerdrop encoder_layerdrop"),
        (64, "index_topk codebook_size audio_vocab_size"),
    )
    for name in names.split()
}
MLA = {"num_key_value_heads": HEADS}  # multi-head latent attention: as many keys as queries
HYBRID = {"num_hidden_layers": 2, "layer_types": ["linear_attention", "full_attention"]}
SHARED = {"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2, "num_kv_shared_layers": 2}
ZAMBA = {
    "num_hidden_layers": 3,
    "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
    "num_key_value_heads": HEADS,
}
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}}
HEADED = {"head_dim": HEAD, "num_key_value_heads": KEY_VALUE_HEADS}
OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        """axk1 axk2 bailing_hybrid deepseek_v3 deepseek_v32 glm4_moe_lite glm_moe_dsa kimi_linear longcat_flash minicpm3
        youtu dots3_note_text mistral4 mistral_large4_text""".split(),
        MLA,
    ),
    "bamba": {"attn_layer_indices": [1]},
    "cohere_compass_text": {"layer_types": ["sliding_attention", "full_attention"]},
    "dots1": {"n_routed_experts": EXPERTS, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "deepseek_v2": {**MLA, "num_experts_per_tok": 2},
    **dict.fromkeys(("gemma4_text", "gemma4_unified_text"), SHARED),
    "gemma3n_text": {**SHARED, "intermediate_size": [2 * HIDDEN] * 4, "activation_sparsity_pattern": [0.0] * 4},
    **dict.fromkeys("qwen2_vl_text qwen2_5_vl_text glm4v_text glm_ocr_text paddleocr_vl_text".split(), MROPE),
    "glm4v_moe_text": {
        "rope_parameters": {**MROPE["rope_parameters"], "mrope_section": [1, 1, 0], "partial_rotary_factor": 0.5}
    },
    "granitemoehybrid": HYBRID,
    **dict.fromkeys(("hunyuan_v1_dense", "hunyuan_v1_moe", "ministral", "nemotron"), HEADED),
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8, "head_dim": HEAD, "n_groups": 1},
    "mpt": {"attn_pdrop": 0},
    "qwen4_exp_text": {
        **{"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 16},
        **{"indexer_compress_ratio": 4, "ngram_vocab_size_base": 64, "hc_lowrank": 8, "split_ngram_parts": 2},
    },
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {
        **{"is_decoder": True, "axial_pos_shape": [16, 16], "axial_pos_embds_dim": [16, 16]},
        "attn_layers": ["local", "lsh"],
        **{"num_hashes": 1, "local_attn_chunk_length": 8, "lsh_attn_chunk_length": 8},
    },
    "xmod": {"default_language": "en_XX"},
    "zamba": {**ZAMBA, "attention_hidden_size": 2 * HIDDEN, "attention_head_dim": 2 * HEAD},
    "zamba2": {**ZAMBA, "attention_hidden_size": 2 * HIDDEN},
    "xlstm": {"hidden_size": 128, "embedding_dim": 128},
    "zaya": {"num_experts_per_tok": 1},
}
OFF = ("dropout", "dropout_prob", "pdrop", "jitter")  # parts of the names of what draws random numbers: zero


def shrunk(config_class: Any, vocab_size: int, own: Mapping[str, Any] | None = None) -> Any:
    """An instance of the configuration class with small sizes."""
    return config_class(**_arguments(config_class, vocab_size) | dict(own or {}))


def _arguments(config_class: Any, vocab_size: int) -> dict[str, Any]:
    default = config_class()
    nested = dict(getattr(config_class, "sub_configs", None) or {})
    arguments: dict[str, Any] = {}
    layers = next((value for name in LAYERS if isinstance(value := getattr(default, name, None), int)), 0)
    count = 2
    for name, value in vars(default).items():
        if name in nested or name.startswith("_"):
            continue
        if isinstance(value, list) and layers and len(value) == layers and not isinstance(value[0], bool):
            kinds = list(dict.fromkeys(map(str, value)))
            chosen = [next(entry for entry in value if str(entry) == kind) for kind in kinds]
            arguments[name] = chosen
            count = max(count, len(chosen))
        elif isinstance(value, dict) and "mrope_section" in value:
            half = int(HEAD // 2 * value.get("partial_rotary_factor", 1.0))
            arguments[name] = {**value, "mrope_section": [half - 2 * (half // 3), half // 3, half // 3]}
        elif isinstance(value, bool) or not isinstance(value, int | float):
            continue
        elif "vocab_size" in name and name not in SIZES:
            arguments[name] = vocab_size
        elif name in SIZES:
            arguments[name] = type(value)(SIZES[name])
        elif any(part in name for part in OFF):
            arguments[name] = type(value)(0)
        elif name.endswith(("_token_id", "_token_index")) and not 0 <= value < vocab_size:
            arguments[name] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}.get(name, vocab_size - 1)
    for name, value in list(arguments.items()):
        if isinstance(value, list):
            arguments[name] = (value * count)[:count]
        elif name in LAYERS:
            arguments[name] = count
    for name in nested:
        part = getattr(default, name, None)
        if part is not None:
            arguments[name] = _arguments(type(part), vocab_size) | {"model_type": part.model_type}
    if getattr(default, "is_encoder_decoder", False):
        arguments["is_encoder_decoder"] = False  # the decoder alone, as its class saves it
    if hasattr(default, "is_decoder"):
        arguments["is_decoder"] = True
    return arguments | OWN.get(default.model_type, {})


def tiny_model(config: Any, dtype: torch.dtype = torch.float32, spread: float = 0.3) -> Any:
    """A model with weights far enough from zero that every scale, cap and mask shows in its losses."""
    torch.manual_seed(0)
    model = language_model_class(config, config.model_type).from_config(config, dtype=dtype).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
                parameter.add_((spread * noise / max(1.0, parameter.shape[-1] ** 0.5 / 4)).to(parameter.dtype))
    return model
