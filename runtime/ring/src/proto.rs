//! Messages and services, generated from `proto/lime.proto`.

tonic::include_proto!("lime.v1");
