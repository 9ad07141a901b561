//! KV pages beyond memory: what the engine needs of the disk that keeps them.

use lime_plan::{Bytes, PageName};

/// Where a device's full KV pages are kept beyond its memory. What it does not do now, or not at all, costs time and nothing else: a page
/// that is not there is computed again.
pub trait PageDisk: Send {
    /// Whether the page is there, or on its way there.
    fn has(&self, name: &PageName) -> bool;

    /// Takes a copy of a page, the next of its sequence after `behind`, and writes it while others compute. False where it takes none at the
    /// moment.
    fn write(&mut self, name: PageName, behind: Option<PageName>, page: &[u8]) -> bool;

    /// Fills `page`; false where it is not there, or not as it was written.
    fn read(&mut self, name: &PageName, page: &mut [u8]) -> bool;

    /// These pages, of one sequence in its order, are of use: others go before them.
    fn used(&mut self, names: &[PageName]);

    /// Memory that copies take which are not yet written.
    fn copies(&self) -> Bytes;

    /// Waits until none is left.
    fn settle(&mut self);

    /// Every page that is there, the one that goes last first.
    fn names(&self) -> Vec<PageName>;

    /// How many pages it has room for.
    fn room(&self) -> usize;

    /// Removes them all.
    fn clear(&mut self);
}
