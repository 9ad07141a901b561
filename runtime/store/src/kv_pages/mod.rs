//! KV pages on a device's disk: what was computed once for the beginning of a sequence outlives the process. A page lies in a file of its
//! own, named after all that it depends on, and says itself which page it is and what its bytes hash to. Nothing is lost with one but the
//! time to compute it again: so nothing is written twice or flushed for safety's sake, and whatever is not whole is removed.

mod book;
mod file;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use lime_plan::{Bytes, PageName};

use crate::{disk::DiskReader, error::StoreError, model::StoredModel, names::remove};

use book::Book;

/// The folder of all of a model's pages.
const PAGES: &str = "kv-pages";
/// Held by the process that writes to a device's folder.
const LOCK: &str = "lock";
/// The ending of a page's file.
const ENDING: &str = "page";
/// Most pages that are kept, however small they are: their names go over the wire.
pub const MOST_KV_PAGES: usize = 1 << 16;

/// The pages of one device, of one set of its layers. This process alone changes them.
pub struct KvPages {
    folder: PathBuf,
    page_bytes: usize,
    book: Mutex<Book>,
    reader: Mutex<Option<DiskReader>>,
    /// Locked for as long as this lives.
    _lock: File,
}

/// Which pages are meant.
#[derive(Clone, Copy, Debug)]
pub struct KvPageSet<'a> {
    /// The device.
    pub device: &'a str,
    /// Names the layers of which a page has the entries, and in what form: pages of one cut are of no use to another.
    pub cut: PageName,
    /// Bytes of a page.
    pub page_bytes: usize,
    /// What the device's pages may take on the disk, those of other cuts included.
    pub limit: Bytes,
}

impl KvPages {
    /// Opens the pages that the store has of `model`, and removes what is not whole or beyond the limit. `None` where another process has
    /// them open.
    ///
    /// # Errors
    /// When the folder cannot be made or listed.
    pub fn open(model: &StoredModel, set: &KvPageSet<'_>) -> Result<Option<Self>, StoreError> {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
        let device: String = set.device.chars().map(plain).take(64).collect();
        let root = model.path().join(PAGES).join(format!("at-{device}"));
        let cut: String = set.cut.to_string().chars().take(16).collect();
        let folder = root.join(format!("of-{cut}"));
        fs::create_dir_all(&folder).map_err(StoreError::writing("create", &folder))?;
        let path = root.join(LOCK);
        let lock = File::create(&path).map_err(StoreError::writing("create", &path))?;
        if lock.try_lock().is_err() {
            return Ok(None);
        }
        let (mut own_pages, mut others) = (Vec::new(), Vec::new());
        for (cut, path) in folders(&root)? {
            let own = path == folder;
            for Found { path, name, bytes, used } in listed(&path)? {
                match name {
                    Some(name) if own && bytes == file::file_bytes(set.page_bytes) => own_pages.push((used, name)),
                    Some(_) if !own => others.push((used, path, bytes)),
                    _ => remove(&path)?,
                }
            }
            if !own && fs::remove_dir(&path).is_ok() {
                tracing::debug!(cut, "no page of this cut is left");
            }
        }
        let book = Book::new(set.limit, file::file_bytes(set.page_bytes), own_pages, others);
        let this =
            Self { folder, page_bytes: set.page_bytes, book: Mutex::new(book), reader: Mutex::default(), _lock: lock };
        this.make_room(0);
        Ok(Some(this))
    }

    /// Whether the page is there.
    pub fn has(&self, name: &PageName) -> bool {
        self.book().has(name)
    }

    /// Every page that is there, the one that was used last first.
    pub fn names(&self) -> Vec<PageName> {
        self.book().names()
    }

    /// How many pages fit.
    pub fn room(&self) -> usize {
        self.book().room()
    }

    /// How many there are, and what they take, those of other cuts included.
    pub fn taken(&self) -> (usize, Bytes) {
        let book = self.book();
        (book.pages(), book.bytes())
    }

    /// Writes a page, the next of its sequence after `behind`. The least recently used go where there is no room for it.
    ///
    /// # Errors
    /// When it cannot be written: nothing of it is left.
    pub fn write(&self, name: PageName, behind: Option<PageName>, page: &[u8]) -> Result<(), StoreError> {
        debug_assert_eq!(page.len(), self.page_bytes, "bytes of a page");
        if self.has(&name) || self.room() == 0 {
            return Ok(());
        }
        self.make_room(1);
        let path = self.path(&name);
        if let Err(fault) = file::write(&path, &name, page) {
            // Where even that cannot be done, the next start does it.
            let _ = remove(&file::unfinished(&path));
            return Err(fault);
        }
        self.book().add(name, behind);
        Ok(())
    }

    /// These pages, of one sequence in its order, are of use: others go before them.
    pub fn used(&self, names: &[PageName]) {
        self.book().used(names);
    }

    /// Fills `page`; false where it is not there.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written: it is removed.
    pub fn read(&self, name: &PageName, page: &mut [u8]) -> Result<bool, StoreError> {
        debug_assert_eq!(page.len(), self.page_bytes, "bytes of a page");
        if !self.has(name) {
            return Ok(false);
        }
        let path = self.path(name);
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let read = file::read(reader.get_or_insert_with(DiskReader::new), &path, name, page);
        drop(reader);
        match read {
            Ok(()) => {
                // For the order in which pages go when this process is no more.
                let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                Ok(true)
            }
            Err(fault) => {
                self.book().remove(name);
                let _ = remove(&path);
                Err(fault)
            }
        }
    }

    /// Removes every page, those of other cuts included.
    ///
    /// # Errors
    /// When one cannot be removed. It is not read again all the same, until the next start.
    pub fn clear(&self) -> Result<(), StoreError> {
        let gone: Vec<PathBuf> = self.book().take_all().into_iter().map(|page| self.path_of(page)).collect();
        gone.iter().map(|path| remove(path)).fold(Ok(()), Result::and)
    }

    fn make_room(&self, pages: u64) {
        loop {
            let Some(page) = self.book().next_to_go(pages) else { return };
            let _ = remove(&self.path_of(page));
        }
    }

    fn path_of(&self, page: book::Gone) -> PathBuf {
        match page {
            book::Gone::Own(name) => self.path(&name),
            book::Gone::Other(path) => path,
        }
    }

    fn path(&self, name: &PageName) -> PathBuf {
        self.folder.join(format!("{name}.{ENDING}"))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for KvPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvPages").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// A file among pages.
struct Found {
    path: PathBuf,
    /// `None`: it is no page.
    name: Option<PageName>,
    bytes: u64,
    used: SystemTime,
}

fn folders(root: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let entries = fs::read_dir(root).map_err(StoreError::io("list", root))?;
    let cut = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().strip_prefix("of-")?.to_owned();
        entry.file_type().is_ok_and(|kind| kind.is_dir()).then(|| (name, entry.path()))
    };
    Ok(entries.flatten().filter_map(cut).collect())
}

fn listed(folder: &Path) -> Result<Vec<Found>, StoreError> {
    let entries = fs::read_dir(folder).map_err(StoreError::io("list", folder))?;
    let found = |entry: fs::DirEntry| {
        let data = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        let path = entry.path();
        let is_page = path.extension().is_some_and(|ending| ending == ENDING);
        let name = path.file_stem().filter(|_| is_page).and_then(|stem| stem.to_str()?.parse().ok());
        let used = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Some(Found { path, name, bytes: data.len(), used })
    };
    Ok(entries.flatten().filter_map(found).collect())
}
