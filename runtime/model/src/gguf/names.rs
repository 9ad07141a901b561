//! The names of tensors: ggml's, and those that the rest of the house knows them by.

use super::architectures::GgufArchitecture;

/// The name under which a tensor is looked for; its own where the house knows none.
pub(super) fn usual_name(ggml: &str, architecture: Option<&GgufArchitecture>) -> String {
    match ggml {
        "token_embd.weight" => return "model.embed_tokens.weight".into(),
        "output_norm.weight" => return "model.norm.weight".into(),
        "output.weight" => return "lm_head.weight".into(),
        _ => {}
    }
    within_layer(ggml, architecture).unwrap_or_else(|| ggml.to_owned())
}

fn within_layer(ggml: &str, architecture: Option<&GgufArchitecture>) -> Option<String> {
    let (around, fused) = architecture.map_or((false, false), |it| (it.around, it.fused));
    let (layer, name) = ggml.strip_prefix("blk.")?.split_once('.')?;
    let (stem, ending) = name.rsplit_once('.')?;
    let usual = match stem {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "ffn_norm" if around => "pre_feedforward_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        "post_attention_norm" => "post_attention_layernorm",
        "post_ffw_norm" => "post_feedforward_layernorm",
        "attn_qkv" if fused => "self_attn.qkv_proj",
        "ffn_up" if fused => "mlp.gate_up_proj",
        "ffn_gate_inp" => "mlp.gate",
        "ffn_gate_exps" => "mlp.experts.gate_proj",
        "ffn_up_exps" => "mlp.experts.up_proj",
        "ffn_down_exps" => "mlp.experts.down_proj",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    };
    Some(format!("model.layers.{layer}.{usual}.{ending}"))
}

/// Whether converters put the rows of this tensor that are rotated together next to each other, in files of Llama's kind.
pub(super) fn is_rotated(ggml: &str) -> bool {
    let stem = ggml.strip_prefix("blk.").and_then(|name| name.split_once('.')).map(|(_, name)| name);
    stem.is_some_and(|name| name.starts_with("attn_q.") || name.starts_with("attn_k."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_layout() {
        for (ggml, usual, rotated) in [
            ("blk.3.attn_q.weight", "model.layers.3.self_attn.q_proj.weight", true),
            ("blk.3.attn_k.bias", "model.layers.3.self_attn.k_proj.bias", true),
            ("blk.0.attn_q_norm.weight", "model.layers.0.self_attn.q_norm.weight", false),
            ("output.weight", "lm_head.weight", false),
            ("blk.0.ffn_gate_exps.weight", "model.layers.0.mlp.experts.gate_proj.weight", false),
            ("blk.0.ssm_out.weight", "blk.0.ssm_out.weight", false),
        ] {
            assert_eq!((usual_name(ggml, None).as_str(), is_rotated(ggml)), (usual, rotated));
        }
    }
}
