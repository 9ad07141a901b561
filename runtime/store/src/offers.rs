//! The GGUF models among the files of a repository: what each is called, and which one a quantization means.

use std::collections::BTreeMap;

use lime_model::{gguf_parts, is_gguf};
use lime_plan::Bytes;

/// A file that a source lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its path there.
    pub(crate) name: String,
    /// Its size, where the source says it.
    pub(crate) bytes: Option<u64>,
}

/// A GGUF model in one file or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The path of its first file.
    pub(crate) first: String,
    /// What it takes, where that is known of all its files.
    bytes: Option<Bytes>,
    /// What its name says of the formats in it, such as `Q4_K_M`.
    quant: Option<String>,
    /// Files that its name speaks of and that are not there.
    missing: usize,
}

/// Why a quantization means no model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoOffer {
    /// None is of it.
    None,
    /// More than one is; their files.
    Many(Vec<String>),
    /// Parts of it are missing.
    Incomplete {
        /// Its first file.
        first: String,
        /// How many.
        missing: usize,
    },
}

/// The models among `files`, in the order of their sizes.
pub(crate) fn offers(files: &[Listed]) -> Vec<Offer> {
    let sizes: BTreeMap<&str, Option<u64>> = files.iter().map(|file| (file.name.as_str(), file.bytes)).collect();
    let mut models: BTreeMap<String, Vec<Option<Option<u64>>>> = BTreeMap::new();
    for file in files.iter().filter(|file| is_model(&file.name)) {
        let (folder, name) = folder_and_name(&file.name);
        // A name whose numbers contradict each other is a part of nothing.
        let Ok(parts) = gguf_parts(name) else { continue };
        let paths: Vec<String> = parts.iter().map(|part| joined(folder, part)).collect();
        let Some(first) = paths.first().cloned() else { continue };
        models.entry(first).or_insert_with(|| paths.iter().map(|path| sizes.get(path.as_str()).copied()).collect());
    }
    let mut offers: Vec<Offer> = models
        .into_iter()
        .map(|(first, parts)| Offer {
            bytes: parts.iter().copied().flatten().sum::<Option<u64>>().map(Bytes),
            missing: parts.iter().filter(|part| part.is_none()).count(),
            quant: quant_in(&first),
            first,
        })
        .collect();
    offers.sort_by(|one, other| (one.bytes, &one.first).cmp(&(other.bytes, &other.first)));
    offers
}

/// The model that `quant` means: the one whose name says just that, else the only one of which it is the end (`Q4_K_XL` of
/// `UD-Q4_K_XL`).
pub(crate) fn pick<'a>(offers: &'a [Offer], quant: &str) -> Result<&'a Offer, NoOffer> {
    let said = |offer: &&Offer, fits: &dyn Fn(&str) -> bool| offer.quant.as_deref().is_some_and(fits);
    let exact: Vec<&Offer> =
        offers.iter().filter(|offer| said(offer, &|own| own.eq_ignore_ascii_case(quant))).collect();
    let ends = |own: &str| own.rsplit_once('-').is_some_and(|(_, end)| end.eq_ignore_ascii_case(quant));
    let found = if exact.is_empty() { offers.iter().filter(|offer| said(offer, &ends)).collect() } else { exact };
    match found.as_slice() {
        [] => Err(NoOffer::None),
        [Offer { first, missing: missing @ 1.., .. }] => {
            Err(NoOffer::Incomplete { first: first.clone(), missing: *missing })
        }
        [one] => Ok(one),
        many => Err(NoOffer::Many(many.iter().map(|offer| offer.first.clone()).collect())),
    }
}

/// The offers for a person to choose from: quantizations, and the files that do not say theirs, with what they take.
pub(crate) fn listing(offers: &[Offer]) -> String {
    let one = |offer: &Offer| {
        let name = offer.quant.as_deref().unwrap_or(&offer.first);
        match (offer.missing, offer.bytes) {
            (0, Some(bytes)) => format!("{name} ({bytes})"),
            (0, None) => name.to_owned(),
            (missing, _) => format!("{name} ({missing} of its files are missing)"),
        }
    };
    offers.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The folder of a path, empty where it has none, and the name in it.
pub(crate) fn folder_and_name(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn joined(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Projectors of pictures and the statistics of quantizers are GGUF files too, and no models.
fn is_model(path: &str) -> bool {
    let (_, name) = folder_and_name(path);
    let name = name.to_ascii_lowercase();
    is_gguf(name.as_ref()) && !name.starts_with("mmproj") && !name.contains("imatrix")
}

/// The last thing in a file's path that looks like the name of a quantization, in capitals.
fn quant_in(path: &str) -> Option<String> {
    let (folder, name) = folder_and_name(path);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let within = |text: &str| {
        let words: Vec<&str> = text.split(['-', '.', '/']).collect();
        let found = words.iter().rposition(|word| is_quant(word)).or_else(|| {
            // Some write it behind an underscore.
            words.iter().rposition(|word| word.match_indices('_').any(|(at, _)| is_quant(&word[at + 1..])))
        })?;
        let word = words[found];
        let own = if is_quant(word) { word } else { after_underscore(word)? };
        let dynamic = found > 0 && words[found - 1].eq_ignore_ascii_case("ud");
        Some(format!("{}{}", if dynamic { "UD-" } else { "" }, own.to_ascii_uppercase()))
    };
    within(stem).or_else(|| within(folder))
}

fn after_underscore(word: &str) -> Option<&str> {
    word.match_indices('_').map(|(at, _)| &word[at + 1..]).find(|rest| is_quant(rest))
}

/// `Q4_K_M`, `IQ4_XS`, `TQ1_0`, `BF16`, `MXFP4` and the like.
fn is_quant(word: &str) -> bool {
    let word = word.to_ascii_uppercase();
    if let "F16" | "F32" | "BF16" | "FP16" | "FP32" = word.as_str() {
        return true;
    }
    if let Some(rest) = word.strip_prefix("MXFP4") {
        return rest.is_empty() || rest.starts_with('_');
    }
    let Some(rest) = ["IQ", "TQ", "Q"].iter().find_map(|kind| word.strip_prefix(kind)) else { return false };
    let mut parts = rest.split('_');
    let bits = parts.next().is_some_and(|bits| bits.len() == 1 && bits.bytes().all(|byte| byte.is_ascii_digit()));
    let parts: Vec<&str> = parts.collect();
    bits && !parts.is_empty() && parts.iter().all(|part| (1..=3).contains(&part.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(names: &[(&str, u64)]) -> Vec<Listed> {
        names.iter().map(|(name, bytes)| Listed { name: (*name).into(), bytes: Some(*bytes) }).collect()
    }

    #[test]
    fn names_say_how_a_model_is_quantized() {
        for (name, quant) in [
            ("Llama-3.2-3B-Instruct-Q4_K_M.gguf", Some("Q4_K_M")),
            ("llama-2-7b.Q8_0.gguf", Some("Q8_0")),
            ("qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf", Some("Q4_K_M")),
            ("Qwen3-8B-UD-Q4_K_XL.gguf", Some("UD-Q4_K_XL")),
            ("gpt-oss-20b-MXFP4.gguf", Some("MXFP4")),
            ("model_q5_k_s.gguf", Some("Q5_K_S")),
            ("BF16/Llama-00001-of-00003.gguf", Some("BF16")),
            ("m-IQ4_XS.gguf", Some("IQ4_XS")),
            ("m-Q4_0_4_4.gguf", Some("Q4_0_4_4")),
            ("ggml-model-f16.gguf", Some("F16")),
            ("Qwen2-Q.gguf", None),
            ("stories260K.gguf", None),
        ] {
            assert_eq!(quant_in(name).as_deref(), quant, "{name}");
        }
    }

    #[test]
    fn a_quantization_means_one_whole_model() {
        let files = listed(&[
            ("README.md", 1),
            ("m-Q8_0.gguf", 3 << 20),
            ("m-Q4_K_M.gguf", 1 << 20),
            ("mmproj-Q8_0.gguf", 9),
            ("imatrix.gguf", 9),
            ("BF16/m-BF16-00001-of-00002.gguf", 2 << 20),
            ("BF16/m-BF16-00002-of-00002.gguf", 3 << 20),
            ("m-Q2_K-00001-of-00002.gguf", 7),
            ("m-UD-Q3_K_XL.gguf", 2 << 20),
            ("a-IQ4_NL.gguf", 8 << 20),
            ("b-IQ4_NL.gguf", 9 << 20),
        ]);
        let found = offers(&files);
        assert_eq!(
            listing(&found),
            "Q2_K (1 of its files are missing), Q4_K_M (1.0 MiB), UD-Q3_K_XL (2.0 MiB), Q8_0 (3.0 MiB), BF16 (5.0 MiB), \
             IQ4_NL (8.0 MiB), IQ4_NL (9.0 MiB)"
        );
        let first = |quant: &str| pick(&found, quant).map(|offer| offer.first.as_str());
        assert_eq!(first("q4_k_m"), Ok("m-Q4_K_M.gguf"));
        assert_eq!(first("Q3_K_XL"), Ok("m-UD-Q3_K_XL.gguf"));
        assert_eq!(first("BF16"), Ok("BF16/m-BF16-00001-of-00002.gguf"));
        assert_eq!(first("Q4_K"), Err(NoOffer::None));
        assert_eq!(first("K_M"), Err(NoOffer::None));
        assert_eq!(first("Q2_K"), Err(NoOffer::Incomplete { first: "m-Q2_K-00001-of-00002.gguf".into(), missing: 1 }));
        assert_eq!(first("IQ4_NL"), Err(NoOffer::Many(vec!["a-IQ4_NL.gguf".into(), "b-IQ4_NL.gguf".into()])));
    }
}
