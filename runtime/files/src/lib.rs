//! Small files that come with a model or that a person names: never trusted, never read beyond a limit, and every fault names the
//! file, the field, what was expected and what was found.
//!
//! ```
//! use lime_files::{Fields, FileError, read_bounded};
//!
//! let folder = std::env::temp_dir().join(format!("lime-files-{}", std::process::id()));
//! std::fs::create_dir_all(&folder)?;
//! let path = folder.join("config.json");
//! std::fs::write(&path, r#"{"hidden_size": 64, "vocab_size": "many"}"#)?;
//!
//! let value = serde_json::from_slice(&read_bounded(&path, 1 << 20, "every model has one")?)?;
//! let fields = Fields::new(&path, &value)?;
//! assert_eq!(fields.count("hidden_size", 1 << 20)?, Some(64));
//! let fault = fields.count("vocab_size", 1 << 24).unwrap_err();
//! assert!(fault.to_string().ends_with(r#"the field "vocab_size" must be a whole number from 1 to 16777216, found "many""#));
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod fields;
mod small_file;

pub use error::FileError;
pub use fields::{Fields, kind, read_bounded};
pub use small_file::{open_regular, read_small, read_small_or_pipe};
