//! A gateway over a ring without a model, to try clients with: `cargo run -p lime-gateway --example fake_gateway -- ADDR`.
//! Keys: `secret`, where a second argument `keys` is given. Slots and queue are small, so that 429 can be had.

// Test code, of which this uses a part.
#[allow(dead_code, clippy::unwrap_used)]
#[path = "../tests/http/fake.rs"]
mod fake;

use std::{net::SocketAddr, time::Duration};

use fake::{Controls, Setup, babble, serve};

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let listen: SocketAddr =
        arguments.next().unwrap_or("127.0.0.1:0".into()).parse().expect("an address such as 127.0.0.1:8000");
    let keys = if arguments.next().as_deref() == Some("keys") { vec!["secret".into()] } else { Vec::new() };
    let letters = (300..900).collect();
    let ring = Controls::new(babble(letters));
    ring.with(|state| state.pass_time = Duration::from_millis(2));
    let served = serve(Setup { listen, keys, slots: 2, queue: 2, ..Setup::default() }, ring).await;
    println!("{}", served.handle.addr());
    // Until it is killed.
    std::future::pending::<()>().await;
}
