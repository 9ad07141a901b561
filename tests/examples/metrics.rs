//! Writes `docs/metrics.md`: every figure that gateways and the operator export, as they describe it themselves.

use std::error::Error;

use lime_metrics::Family;

fn main() -> Result<(), Box<dyn Error>> {
    println!("# Metrics\n\nWritten by `make generate` from what is exported; `make check` holds the two equal.");
    table("Gateway", "On `/metrics` of the API's port.", &lime_gateway::metric_families());
    table("Operator", "On `:8080/metrics`.", &lime_operator::metric_families()?);
    Ok(())
}

fn table(of: &str, place: &str, families: &[Family]) {
    println!("\n## {of}\n\n{place}\n\n| Name | Type | Labels | Meaning |\n|---|---|---|---|");
    for Family { name, kind, help, labels } in families {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        println!("| `{name}` | {kind} | {} | {help} |", labels.join(", "));
    }
}
