//! Reading little-endian values off the front of bytes that may end anywhere.

/// Why a header cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It goes on behind the bytes at hand: at least so many from the start are needed.
    Short(u64),
    /// It is damaged, or not what is read here.
    Damaged(String),
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Damaged(reason)
    }
}

/// A place in a header.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) const fn position(&self) -> u64 {
        self.at as u64
    }

    /// The next `count` bytes. Nothing is allocated for what is not there.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], Fault> {
        let end = (self.at as u64).saturating_add(count);
        let end = usize::try_from(end).ok().filter(|end| *end <= self.bytes.len()).ok_or(Fault::Short(end))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let bytes = self.take(N as u64)?;
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        Ok(array)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    /// A string as GGUF stores it: its length, then UTF-8. `of` says what it is.
    pub(super) fn text(&mut self, most: u64, of: &str) -> Result<&'a str, Fault> {
        let length = self.u64()?;
        if length > most {
            return Err(format!("{of} claims {length} bytes, more than the {most} that are read").into());
        }
        std::str::from_utf8(self.take(length)?).map_err(|_| format!("{of} is not UTF-8").into())
    }
}
