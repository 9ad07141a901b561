//! Generates the types of `proto/lime.proto` without a `protoc` binary.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(["proto/lime.proto"], ["proto"])?;
    println!("cargo::rerun-if-changed=proto/lime.proto");
    tonic_prost_build::configure()
        .bytes(".lime.v1.Frame.activations")
        .bytes(".lime.v1.Token.logits")
        .bytes(".lime.v1.TokenSet.bits")
        .bytes(".lime.v1.Pooled.sums")
        .bytes(".lime.v1.KeepPage.entries")
        .bytes(".lime.v1.KeepQuestion.queries")
        .bytes(".lime.v1.KeepAnswer.payload")
        .bytes(".lime.v1.ConfigureRequest.plan_json")
        .bytes(".lime.v1.ProbeRequest.payload")
        .bytes(".lime.v1.ProbeReply.payload")
        .compile_fds(descriptors)?;
    Ok(())
}
