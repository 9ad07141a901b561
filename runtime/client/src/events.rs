//! Server-sent events from a stream of bytes.

/// Longest event that is taken.
const LONGEST: usize = 1 << 20;

/// Collects bytes until an event is complete.
#[derive(Debug, Default)]
pub(crate) struct EventReader {
    pending: Vec<u8>,
}

impl EventReader {
    /// Takes bytes as they come and gives the data of every event that they complete; `None`: this is no event stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Option<Vec<String>> {
        self.pending.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some((end, gap)) = boundary(&self.pending) {
            let event: Vec<u8> = self.pending.drain(..end + gap).take(end).collect();
            let text = String::from_utf8_lossy(&event);
            let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
            let data: Vec<&str> = data.map(|data| data.strip_prefix(' ').unwrap_or(data)).collect();
            if !data.is_empty() {
                events.push(data.join("\n"));
            }
        }
        (self.pending.len() <= LONGEST).then_some(events)
    }
}

/// Where the first event ends, and how many bytes separate it from the next.
fn boundary(bytes: &[u8]) -> Option<(usize, usize)> {
    let find = |mark: &[u8]| bytes.windows(mark.len()).position(|window| window == mark).map(|at| (at, mark.len()));
    [find(b"\n\n"), find(b"\r\n\r\n")].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "data: {\"a\":1}\n\n: a comment\n\ndata: two\r\ndata: lines\r\n\r\nevent: x\ndata:[DONE]\n\n";

    #[test]
    fn events_are_found_wherever_the_stream_is_cut() {
        for size in 1..STREAM.len() {
            let mut reader = EventReader::default();
            let found: Vec<String> =
                STREAM.as_bytes().chunks(size).flat_map(|chunk| reader.push(chunk).unwrap()).collect();
            assert_eq!(found, ["{\"a\":1}", "two\nlines", "[DONE]"], "cut every {size} bytes");
        }
    }

    #[test]
    fn an_endless_event_is_not_taken() {
        let mut reader = EventReader::default();
        assert_eq!(reader.push(&vec![b'x'; LONGEST + 1]), None);
    }
}
