//! Models of random weights: the real shapes and file forms without a download, for benchmarks and fault tests.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

use serde_json::json;

use lime_plan::Format;

use crate::{gguf, quantized::Mix};

/// The shape of a Llama to make.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward projections.
    pub intermediate: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Vocabulary.
    pub vocabulary: usize,
    /// Longest context.
    pub context: usize,
}

impl Shape {
    /// 81 M parameters: 162 MB in bf16, and a large KV cache, of 48 KiB a token in f32.
    pub const LLAMA_81M: Self = Self {
        hidden: 1024,
        intermediate: 2816,
        layers: 6,
        heads: 16,
        kv_heads: 16,
        head_dim: 64,
        vocabulary: 2000,
        context: 2048,
    };

    /// 1.1 B parameters (the shape of TinyLlama): 2.2 GB in bf16.
    pub const LLAMA_1B: Self = Self {
        hidden: 2048,
        intermediate: 5632,
        layers: 22,
        heads: 32,
        kv_heads: 4,
        head_dim: 64,
        vocabulary: 32_000,
        context: 2048,
    };

    /// 8 B parameters (the shape of Llama 3 8B): 16 GB in bf16.
    pub const LLAMA_8B: Self = Self {
        hidden: 4096,
        intermediate: 14_336,
        layers: 32,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocabulary: 128_256,
        context: 8192,
    };

    /// Every tensor: Hugging Face name, GGUF name, rows, columns (1 row: a norm vector).
    pub fn tensors(&self) -> Vec<Tensor> {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let (h, inner) = (self.hidden, self.intermediate);
        let mut all = vec![Tensor::new("model.embed_tokens.weight", "token_embd.weight", self.vocabulary, h)];
        for layer in 0..self.layers {
            let parts = [
                ("input_layernorm", "attn_norm", 1, h),
                ("self_attn.q_proj", "attn_q", q, h),
                ("self_attn.k_proj", "attn_k", kv, h),
                ("self_attn.v_proj", "attn_v", kv, h),
                ("self_attn.o_proj", "attn_output", h, q),
                ("post_attention_layernorm", "ffn_norm", 1, h),
                ("mlp.gate_proj", "ffn_gate", inner, h),
                ("mlp.up_proj", "ffn_up", inner, h),
                ("mlp.down_proj", "ffn_down", h, inner),
            ];
            for (hf, ggml, rows, columns) in parts {
                let (hf, ggml) = (format!("model.layers.{layer}.{hf}.weight"), format!("blk.{layer}.{ggml}.weight"));
                all.push(Tensor::new(&hf, &ggml, rows, columns));
            }
        }
        all.push(Tensor::new("model.norm.weight", "output_norm.weight", 1, h));
        all.push(Tensor::new("lm_head.weight", "output.weight", self.vocabulary, h));
        all
    }
}

/// A tensor to write.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Name in a Hugging Face folder.
    pub hf: String,
    /// Name in a GGUF file.
    pub ggml: String,
    /// Output features; 1 for a norm's vector.
    pub rows: usize,
    /// Input features.
    pub columns: usize,
}

impl Tensor {
    fn new(hf: &str, ggml: &str, rows: usize, columns: usize) -> Self {
        Self { hf: hf.into(), ggml: ggml.into(), rows, columns }
    }

    /// Whether this is a norm's vector.
    pub fn is_norm(&self) -> bool {
        self.rows == 1
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.rows * self.columns
    }

    /// Writes the tensor in bf16: ones for a norm, else random values within +-0.08 and about normal, as trained ones are, fixed by
    /// `seed`.
    pub(crate) fn write_bf16(&self, seed: u64, out: &mut impl Write) -> io::Result<()> {
        if self.is_norm() {
            return out.write_all(&[0x80, 0x3f].repeat(self.elements()));
        }
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut chunk = Vec::with_capacity(1 << 16);
        let mut left = self.elements();
        while left > 0 {
            chunk.clear();
            for _ in 0..left.min(1 << 15) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // The sum of four even numbers.
                let unit: u32 = (0..4).map(|part| (state >> (16 * part)) as u32 & 0xffff).sum();
                let value = (unit as f32 / 65536.0 - 2.0) * 0.04;
                chunk.extend_from_slice(&(value.to_bits().wrapping_add(0x8000) >> 16).to_le_bytes()[..2]);
            }
            out.write_all(&chunk)?;
            left -= left.min(1 << 15);
        }
        Ok(())
    }
}

/// Writes a Hugging Face folder of the shape in bf16 at `folder`, unless it is there already. Whole or not at all.
///
/// # Errors
/// What the file system says.
pub fn write_folder(shape: &Shape, folder: &Path) -> io::Result<()> {
    let tokenizer = folder.join("tokenizer.json");
    if folder.join("config.json").is_file() && tokenizer.is_file() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    fs::write(tokenizer, words(shape.vocabulary).to_string())?;
    let partial = folder.join("model.safetensors.tmp");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&partial)?);
    let tensors = shape.tensors();
    let mut header = serde_json::Map::new();
    let mut offset = 0;
    for tensor in &tensors {
        let end = offset + tensor.elements() * 2;
        let dims = if tensor.is_norm() { json!([tensor.columns]) } else { json!([tensor.rows, tensor.columns]) };
        header.insert(tensor.hf.clone(), json!({"dtype": "BF16", "shape": dims, "data_offsets": [offset, end]}));
        offset = end;
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for (index, tensor) in tensors.iter().enumerate() {
        tensor.write_bf16(index as u64 + 1, &mut file)?;
    }
    file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    fs::rename(&partial, folder.join("model.safetensors"))?;
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": shape.hidden, "intermediate_size": shape.intermediate, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads, "head_dim": shape.head_dim,
        "vocab_size": shape.vocabulary, "max_position_embeddings": shape.context, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
        "bos_token_id": 1, "eos_token_id": 2
    });
    fs::write(folder.join("config.json"), config.to_string())
}

/// A tokenizer of the words `t0`, `t1` and so on.
fn words(count: usize) -> serde_json::Value {
    let words: serde_json::Map<_, _> = (0..count).map(|id| (format!("t{id}"), json!(id))).collect();
    json!({
        "version": "1.0",
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "model": { "type": "WordLevel", "vocab": words, "unk_token": "t0" }
    })
}

/// Writes the same weights as one GGUF file for peers that read that, unless it is there already.
///
/// # Errors
/// What the file system says.
pub fn write_gguf(shape: &Shape, path: &Path) -> io::Result<()> {
    write_gguf_as(shape, Mix::All(Format::Bf16), path)
}

/// Writes random weights of the shape as one GGUF file, stored as `mix` has them, unless it is there already.
///
/// # Errors
/// What the file system says.
pub fn write_gguf_as(shape: &Shape, mix: Mix, path: &Path) -> io::Result<()> {
    if path.is_file() {
        return Ok(());
    }
    let partial = path.with_extension("tmp");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&partial)?);
    gguf::write_llama(shape, mix, &mut file)?;
    file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    fs::rename(&partial, path)
}
