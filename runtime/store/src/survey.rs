//! Whether the weights of a model in the store can be compact: samples are asked of its source, once.

use std::{cell::RefCell, fs, io};

use lime_model::TensorEntry;
use lime_plan::ModelCard;

use crate::{connect::connect, error::StoreError, model::StoredModel};

/// Holds what was found, beside the manifest.
const FILE: &str = "survey";
const CAN: &str = "compact";
const CANNOT: &str = "raw";

impl StoredModel {
    /// The card, with the sizes of compact blocks where samples of the weights, a few MiB of its source, say that they can be compact.
    ///
    /// # Errors
    /// What the source says, where the model was not looked at before.
    pub fn surveyed_card(&self, name: &str) -> Result<ModelCard, StoreError> {
        let path = self.path().join(FILE);
        let known = fs::read_to_string(&path).ok();
        let compactible = match known.as_deref() {
            Some(CAN) => true,
            Some(CANNOT) => false,
            _ => {
                let found = self.survey()?;
                // A store that cannot be written to asks again the next time.
                let _ = fs::write(&path, if found { CAN } else { CANNOT });
                found
            }
        };
        Ok(self.folder().card_knowing(name, compactible))
    }

    fn survey(&self) -> Result<bool, StoreError> {
        let origin = connect(&self.manifest().source()?, self.remote())?;
        let fault = RefCell::new(None);
        let read = |tensor: &TensorEntry, from: u64, into: &mut [u8]| {
            let name = tensor.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let file = self.manifest().file(&name).ok_or(io::ErrorKind::NotFound)?;
            let (bytes, mut filled) = (into.len() as u64, 0);
            let got = origin.read(file, from, bytes, &mut |chunk| {
                let end = filled + chunk.len();
                if let Some(part) = into.get_mut(filled..end) {
                    part.copy_from_slice(chunk);
                }
                filled = end;
                Ok(())
            });
            got.map_err(|error| {
                *fault.borrow_mut() = Some(error);
                io::Error::other("not read")
            })
        };
        let found = self.folder().is_compactible(&read);
        match (found, fault.into_inner()) {
            (_, Some(error)) => Err(error),
            (Ok(found), None) => Ok(found),
            // The manifest does not know the file, or the headers are none.
            (Err(_), None) => Ok(false),
        }
    }
}
