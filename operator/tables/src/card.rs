//! What the planner knows of a model, as a table.

use lime_plan::{LayerIndex, ModelCard};

use crate::grid::Grid;

/// What the planner knows of a model.
pub fn card_table(card: &ModelCard, width: Option<usize>) -> String {
    let mut table = Grid::new(&["model", &card.name], 1);
    let kv = card.dtype().kv_entries();
    let head = if card.tied { "shares the embedding's matrix" } else { "has a matrix of its own" };
    let rows = [
        ("architecture", format!("{:?}", card.architecture).to_lowercase()),
        ("stored as", card.format.to_string()),
        ("parameters", count(card.parameters)),
        ("weights", card.weight_bytes().to_string()),
        ("layers", card.layers.to_string()),
        ("hidden", card.hidden.to_string()),
        ("intermediate", card.intermediate.to_string()),
        ("heads", format!("{} (of {})", card.heads, card.head_dim)),
        ("KV heads", card.kv_heads.to_string()),
        ("vocabulary", card.vocabulary.to_string()),
        ("head", head.to_owned()),
        ("context", format!("{} tokens", card.context)),
        (
            "KV cache",
            format!("{} for each token, in {kv}", card.kv_bytes_per_token_per_layer(kv) * u64::from(card.layers)),
        ),
        ("one layer", card.layer_bytes(LayerIndex(0)).to_string()),
        ("embedding", card.blocks.embedding.to_string()),
        ("compact", card.compacted().map_or("not possible".to_owned(), |card| card.weight_bytes().to_string())),
    ];
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    table.render(width)
}

/// `2346112` as `2.35 M (2346112)`.
fn count(number: u64) -> String {
    let units = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")];
    let value = number as f64;
    match units.into_iter().find(|(scale, _)| value >= *scale) {
        Some((scale, unit)) => format!("{:.2} {unit} ({number})", value / scale),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_short_and_exact() {
        assert_eq!(count(70_553_706_496), "70.55 B (70553706496)");
        assert_eq!(count(999), "999");
    }
}
