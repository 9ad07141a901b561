//! Under which names the files of a family hold the tensors.

use lime_plan::{Architecture, Block};

use crate::{family::Family, tensor_role::TensorRole};

/// The names of the embedding in the files of a family.
pub(crate) fn embedding_names(architecture: Architecture) -> Vec<String> {
    names(architecture, TensorRole::Embedding, Block::Embedding)
}

/// The names of a tensor in the files of a family, its own before the usual one.
pub(crate) fn names(architecture: Architecture, role: TensorRole, block: Block) -> Vec<String> {
    let usual = role.file_name(block);
    let page = &Family::page(architecture).tensors;
    let each = |place: usize, expert: u16| Some(page.experts.each[place].replace('*', &expert.to_string()));
    let own = match role {
        TensorRole::Router => Some(page.experts.router.to_owned()),
        TensorRole::ExpertGate(expert) => each(0, expert),
        TensorRole::ExpertUp(expert) => each(1, expert),
        TensorRole::ExpertDown(expert) => each(2, expert),
        _ => page.names.iter().find(|(named, _)| *named == role).map(|(_, name)| (*name).to_owned()),
    };
    let own = own.map(|name| match block {
        Block::Attention(layer) | Block::Mlp(layer) => format!("{}{}.{name}", page.layers, layer.0),
        Block::Embedding | Block::Head => name,
    });
    own.into_iter().chain([usual]).collect()
}
