//! Which origin a source is read by.

use std::path::Path;

use lime_model::is_gguf;
use lime_plan::GgufPick;

use crate::{
    error::StoreError,
    gguf::GgufOrigin,
    http::{HttpOrigin, options::RemoteOptions},
    local::LocalFolder,
    offers::{self, NoOffer, folder_and_name},
    origin::Origin,
    source::Source,
};

/// Reaches for a source. Nothing is asked of it yet, but for what it has, where one of its files must be looked for.
pub(crate) fn connect(source: &Source, remote: &RemoteOptions) -> Result<Box<dyn Origin>, StoreError> {
    let gguf = |folder: Box<dyn Origin>, name: &str| GgufOrigin::new(folder, name, source.to_string());
    Ok(match source {
        Source::Folder(path) => Box::new(LocalFolder(path.clone())),
        Source::Gguf(path) => {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Box::new(gguf(Box::new(LocalFolder(folder.to_owned())), &name)?)
        }
        Source::Http(url) if is_gguf(Path::new(url)) => {
            let (folder, name) = folder_and_name(url);
            Box::new(gguf(Box::new(HttpOrigin::folder(folder, remote.clone())?), name)?)
        }
        Source::Http(url) => Box::new(HttpOrigin::folder(url, remote.clone())?),
        Source::Hub { repository, pick, revision } => {
            let hub = HttpOrigin::hub(repository, revision, remote.clone())?;
            match pick {
                None => Box::new(hub),
                Some(GgufPick::File(path)) => {
                    let (folder, name) = folder_and_name(path);
                    Box::new(gguf(Box::new(hub.within(folder, name)), name)?)
                }
                Some(GgufPick::Quant(quant)) => {
                    let path = looked_for(&hub, quant, source)?;
                    let (folder, name) = folder_and_name(&path);
                    Box::new(gguf(Box::new(hub.within(folder, name)), name)?.found_at(path.clone()))
                }
            }
        }
    })
}

/// The path of the model that `quant` means among what a repository has.
fn looked_for(hub: &HttpOrigin, quant: &str, source: &Source) -> Result<String, StoreError> {
    let offers = offers::offers(&hub.listed()?);
    let hint = match offers::pick(&offers, quant) {
        Ok(offer) => return Ok(offer.first.clone()),
        Err(NoOffer::None) if offers.is_empty() => "it has no GGUF files at all".to_owned(),
        Err(NoOffer::None) => format!("there are {}", offers::listing(&offers)),
        Err(NoOffer::Many(files)) => {
            format!("more than one file is: {}; name the one, as hf://ORG/NAME/FILE.gguf", files.join(", "))
        }
        Err(NoOffer::Incomplete { first, missing }) => {
            format!("there is {first}, and {missing} of the files that belong to it are missing")
        }
    };
    Err(StoreError::NotThere { file: format!("a model quantized as {quant}"), model: source.to_string(), hint })
}
