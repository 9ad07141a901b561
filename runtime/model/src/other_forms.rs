//! Weights in a form that this build does not read: what is there instead, and what to do.

/// Says what a folder with files of these names holds in the place of `model.safetensors`; nothing where there is nothing of the
/// kind.
pub fn other_form<S: AsRef<str>>(names: &[S]) -> Option<String> {
    let find = |is: fn(&str) -> bool| names.iter().map(AsRef::as_ref).filter(|name| is(name)).min();
    type Form = (fn(&str) -> bool, &'static str);
    let forms: [Form; 6] = [
        (
            |name| {
                name.starts_with("consolidated") && (name.ends_with(".safetensors") || name.contains(".safetensors."))
            },
            "which holds the weights under their makers' own names: take the files of the same model that are named model-….safetensors, \
             or convert it with transformers",
        ),
        (
            |name| name.starts_with("adapter_model"),
            "an adapter, which is no model by itself: merge it into its base model (peft's merge_and_unload) and save that",
        ),
        (
            |name| name.starts_with("model-") && name.ends_with(".safetensors"),
            "a part of the weights without model.safetensors.index.json, which says what lies where: copy or download that too",
        ),
        (|name| name.ends_with(".safetensors"), "which must be named model.safetensors if it is the whole model"),
        (
            |name| name.ends_with(".gguf"),
            "a GGUF file: name the file itself as the model, such as file:///FOLDER/NAME.gguf",
        ),
        (
            |name| {
                let ends = [".bin", ".bin.index.json", ".pt", ".pth", ".ckpt"];
                ends.iter().any(|end| name.ends_with(end)) && !name.starts_with("training_args")
            },
            "pickled weights, which can run code when they are opened and are not read: convert them to safetensors (transformers' \
             save_pretrained writes them)",
        ),
    ];
    forms.into_iter().find_map(|(is, what)| Some(format!("there is {}, {what}", find(is)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_named_with_what_to_do() {
        for (names, expected) in [
            (vec!["config.json", "b.gguf", "a.gguf"], "there is a.gguf, a GGUF file"),
            (vec!["pytorch_model.bin", "training_args.bin"], "there is pytorch_model.bin, pickled"),
            (vec!["consolidated.00.pth", "tokenizer.model"], "there is consolidated.00.pth, pickled"),
            (vec!["consolidated.safetensors", "params.json"], "there is consolidated.safetensors, which"),
            (vec!["adapter_model.safetensors"], "an adapter"),
            (vec!["model-00001-of-00002.safetensors"], "without model.safetensors.index.json"),
            (vec!["weights.safetensors"], "must be named model.safetensors"),
        ] {
            let found = other_form(&names).unwrap();
            assert!(found.contains(expected), "{names:?}: {found}");
        }
        assert_eq!(other_form(&["config.json", "tokenizer.json", "training_args.bin"]), None);
    }
}
