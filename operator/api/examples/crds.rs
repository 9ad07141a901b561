//! Prints the CustomResourceDefinition of every kind as YAML: `make generate` writes it to crds/.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut kinds = serde_json::to_value(lime_api::crds())?;
    // Whether objects keep the order of their keys depends on what else is built: the file does not.
    kinds.sort_all_objects();
    let kinds: Vec<serde_json::Value> = serde_json::from_value(kinds)?;
    print!("{}", serde_saphyr::to_string_multiple(&kinds)?);
    Ok(())
}
