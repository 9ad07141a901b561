//! Requests that begin alike, over HTTP, through real workers: what was computed once is not computed again, and no answer differs from
//! that of a gateway that keeps nothing, whatever becomes of memory, disks, workers and batch mates.

mod alike;
mod returning;
mod served;
mod soak;
