//! GGUF files in the making: whole small models, for tests to damage and to split.

/// A file in the making.
#[derive(Clone, Default)]
pub(crate) struct Made {
    pub(crate) keys: Vec<(String, u32, Vec<u8>)>,
    /// Name, dimensions (fastest first), type, offset.
    pub(crate) tensors: Vec<(String, Vec<u64>, u32, u64)>,
    pub(crate) data: u64,
    pub(crate) version: u32,
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

pub(crate) fn texts(list: &[&str]) -> Vec<u8> {
    let mut bytes = 8u32.to_le_bytes().to_vec();
    bytes.extend((list.len() as u64).to_le_bytes());
    list.iter().for_each(|one| bytes.extend(text(one)));
    bytes
}

pub(crate) fn numbers(kind: u32, count: usize, each: impl Fn(usize) -> [u8; 4]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend((count as u64).to_le_bytes());
    (0..count).for_each(|index| bytes.extend(each(index)));
    bytes
}

pub(crate) const TOKENS: [&str; 8] = ["<unk>", "<s>", "</s>", "\u{2581}", "a", "b", "ab", "\u{2581}ab"];
pub(crate) const F32: u32 = 0;
pub(crate) const Q8_0: u32 = 8;

impl Made {
    /// A whole small model: two layers, two heads of 16 over 32 columns, a vocabulary of eight.
    pub(crate) fn llama() -> Self {
        let mut made = Self { version: 3, ..Self::default() };
        made.set_text("general.architecture", "llama");
        for (key, value) in [
            ("llama.block_count", 2u32),
            ("llama.embedding_length", 32),
            ("llama.feed_forward_length", 64),
            ("llama.attention.head_count", 2),
            ("llama.attention.head_count_kv", 1),
            ("llama.context_length", 64),
            ("tokenizer.ggml.bos_token_id", 1),
            ("tokenizer.ggml.eos_token_id", 2),
            ("tokenizer.ggml.unknown_token_id", 0),
        ] {
            made.set_count(key, value);
        }
        made.set("llama.attention.layer_norm_rms_epsilon", 6, 1e-5f32.to_le_bytes().to_vec());
        made.set_text("tokenizer.ggml.model", "llama");
        made.set("tokenizer.ggml.tokens", 9, texts(&TOKENS));
        made.set("tokenizer.ggml.scores", 9, numbers(6, 8, |id| (-(id as f32)).to_le_bytes()));
        let kinds = [2i32, 3, 3, 1, 1, 1, 1, 1];
        made.set("tokenizer.ggml.token_type", 9, numbers(5, 8, |id| kinds[id].to_le_bytes()));
        made.tensor("token_embd.weight", &[32, 8], Q8_0);
        made.tensor("output_norm.weight", &[32], F32);
        for layer in 0..2 {
            for (name, dims, kind) in [
                ("attn_norm", vec![32], F32),
                ("attn_q", vec![32, 32], Q8_0),
                ("attn_k", vec![32, 16], Q8_0),
                ("attn_v", vec![32, 16], if layer == 0 { Q8_0 } else { F32 }),
                ("attn_output", vec![32, 32], Q8_0),
                ("ffn_norm", vec![32], F32),
                ("ffn_gate", vec![32, 64], Q8_0),
                ("ffn_up", vec![32, 64], Q8_0),
                ("ffn_down", vec![64, 32], Q8_0),
            ] {
                made.tensor(&format!("blk.{layer}.{name}.weight"), &dims, kind);
            }
        }
        made
    }

    pub(crate) fn set(&mut self, key: &str, kind: u32, value: Vec<u8>) {
        self.keys.retain(|(known, ..)| known != key);
        self.keys.push((key.into(), kind, value));
    }

    pub(crate) fn set_text(&mut self, key: &str, value: &str) {
        self.set(key, 8, text(value));
    }

    pub(crate) fn set_count(&mut self, key: &str, value: u32) {
        self.set(key, 4, value.to_le_bytes().to_vec());
    }

    pub(crate) fn without(&self, key: &str) -> Self {
        let mut made = self.clone();
        made.keys.retain(|(known, ..)| known != key);
        made
    }

    pub(crate) fn with(&self, change: impl Fn(&mut Self)) -> Self {
        let mut made = self.clone();
        change(&mut made);
        made
    }

    pub(crate) fn tensor(&mut self, name: &str, dims: &[u64], kind: u32) {
        let elements: u64 = dims.iter().product();
        let bytes = if kind == Q8_0 { elements / 32 * 34 } else { elements * 4 };
        self.tensors.push((name.into(), dims.to_vec(), kind, self.data));
        self.data = (self.data + bytes).next_multiple_of(32);
    }

    pub(crate) fn header(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        for (key, kind, value) in &self.keys {
            bytes.extend(text(key));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value);
        }
        for (name, dims, kind, offset) in &self.tensors {
            bytes.extend(text(name));
            bytes.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header();
        let start = bytes.len();
        bytes.extend((0..self.data).map(|at| (at * 37 % 251) as u8));
        assert_eq!(bytes.len(), start + self.data as usize);
        bytes
    }

    /// This model in two files, of which the second has no metadata of the model.
    pub(crate) fn in_two(&self) -> [Self; 2] {
        let middle = self.tensors.len() / 2;
        [self.part(0, &self.keys, 0..middle), self.part(1, &[], middle..self.tensors.len())]
    }

    /// One of two files: its number, keys, and which of the tensors it has.
    pub(crate) fn part(&self, number: u16, keys: &[(String, u32, Vec<u8>)], range: std::ops::Range<usize>) -> Self {
        let mut part = Self { version: 3, keys: keys.to_vec(), ..Self::default() };
        part.set("split.no", 2, number.to_le_bytes().to_vec());
        part.set("split.count", 2, 2u16.to_le_bytes().to_vec());
        self.tensors[range].iter().for_each(|(name, dims, kind, _)| part.tensor(name, dims, *kind));
        part
    }
}
