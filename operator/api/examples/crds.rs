//! Prints the CustomResourceDefinition of every kind as YAML: `make generate` writes it to crds/.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", serde_saphyr::to_string_multiple(&lime_api::crds())?);
    Ok(())
}
