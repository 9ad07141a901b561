//! What the operator is told on its command line.

use std::{collections::BTreeSet, net::SocketAddr, str::FromStr};

use clap::{Args, ValueEnum};
use lime_plan::Bytes;

/// Where workers keep the weights that they fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WeightStore {
    /// A PersistentVolumeClaim for each worker, of `--weight-store-class`.
    Claim,
    /// A folder of the node, `--weight-store-path`. Not allowed in namespaces with restricted pod security.
    HostPath,
    /// A folder that goes with the pod.
    EmptyDir,
}

/// How the parts of a ring find one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Addressing {
    /// By the pods' names in the headless Service. Survives a restarted pod without a word.
    Dns,
    /// By the pods' addresses, for clusters without DNS. The gateway is told when a worker gets another address.
    PodIp,
}

/// Who the processes in pods are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodUser {
    /// User and group of this number.
    Number(u32),
    /// Whoever the namespace's policy says.
    Namespace,
}

impl PodUser {
    /// The number, where one is said.
    pub const fn number(self) -> Option<u32> {
        match self {
            Self::Number(number) => Some(number),
            Self::Namespace => None,
        }
    }
}

impl FromStr for PodUser {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "namespace" => Ok(Self::Namespace),
            Ok(number) if number > 0 => Ok(Self::Number(number)),
            _ => Err("it is no number above 0 and not `namespace`: root is not among the choices".into()),
        }
    }
}

/// What the operator is told on its command line.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// The namespace of the operator: its Lease and the agents' heartbeats are there
    #[arg(long, env = "POD_NAMESPACE", default_value = "lime-system")]
    pub namespace: String,

    /// This replica's name, which holds the Lease
    #[arg(long, env = "POD_NAME", default_value = "lime-operator")]
    pub identity: String,

    /// The image of workers, gateways and inspections
    #[arg(long, env = "LIME_IMAGE", default_value = "lime:latest")]
    pub image: String,

    /// When the image is pulled: Always, IfNotPresent or Never
    #[arg(long, default_value = "IfNotPresent")]
    pub image_pull_policy: String,

    /// A Secret for pulling the image, in the namespace of each deployment; may be given several times
    #[arg(long = "image-pull-secret", value_name = "NAME")]
    pub image_pull_secrets: Vec<String>,

    /// Who workers, gateways and inspections are: a number above 0 for user and group, or `namespace` to leave that to the policy of
    /// the namespace (OpenShift)
    #[arg(long, default_value = "65532")]
    pub pod_user: PodUser,

    /// Where health and metrics are served
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// Where workers keep the weights that they fetch
    #[arg(long, value_enum, default_value_t = WeightStore::Claim)]
    pub weight_store: WeightStore,

    /// The StorageClass of `--weight-store claim`; default: the cluster's
    #[arg(long)]
    pub weight_store_class: Option<String>,

    /// The folder of `--weight-store host-path`
    #[arg(long, default_value = "/var/lib/lime")]
    pub weight_store_path: String,

    /// The server behind `hf://` sources, such as a mirror: http(s)://HOST. Default: the Hugging Face hub
    #[arg(long, value_parser = server)]
    pub hub_endpoint: Option<String>,

    /// How the parts of a ring find one another
    #[arg(long, value_enum, default_value_t = Addressing::Dns)]
    pub addressing: Addressing,

    /// MiB that a worker needs besides weights, buffers, KV cache and activations
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub worker_overhead_mib: u64,

    /// Rings of deployments that ask for MutualTLS speak it (the chart's default). Without it they run in plain text and say
    /// so in their Degraded condition
    #[arg(long)]
    pub ring_tls: bool,

    /// The OpenTelemetry collector (OTLP over gRPC) to which gateways and workers send the traces of requests, such as
    /// `http://collector.monitoring:4317`; default: none
    #[arg(long, value_parser = server)]
    pub otlp_endpoint: Option<String>,

    /// Share of the requests that are traced, 0 to 1
    #[arg(long, requires = "otlp_endpoint")]
    pub trace_ratio: Option<f64>,

    /// Namespaces whose LimeDeployments are looked after, with commas between them; default: all. The operator then needs no rights
    /// on others, and sees nothing of what pods elsewhere request
    #[arg(long, value_delimiter = ',', value_parser = namespace)]
    pub watch_namespaces: Vec<String>,

    /// Do not wait for a Lease: for a single operator outside a cluster
    #[arg(long)]
    pub no_leader_election: bool,
}

impl Settings {
    /// The namespaces that are looked after, each once; a single `None` stands for all.
    pub fn namespaces(&self) -> Vec<Option<String>> {
        let named: BTreeSet<&String> = self.watch_namespaces.iter().collect();
        if named.is_empty() { vec![None] } else { named.into_iter().cloned().map(Some).collect() }
    }

    /// What a worker needs besides.
    pub fn worker_overhead(&self) -> Bytes {
        Bytes::mib(self.worker_overhead_mib)
    }
}

/// A namespace's name.
fn namespace(text: &str) -> Result<String, String> {
    let inside = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
    let ends = |it: Option<char>| it.is_some_and(|it| it != '-');
    let named = text.len() <= 63 && text.chars().all(inside) && ends(text.chars().next()) && ends(text.chars().last());
    named
        .then(|| text.to_owned())
        .ok_or_else(|| "it is no name of a namespace: lower-case letters, digits and - make one".into())
}

/// A server's URL, without a slash at its end.
fn server(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
    let host = host.trim_end_matches('/');
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err("it is no URL of a server: write http://HOST or https://HOST".into());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{PodUser, Settings, server};

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn namespaces_are_named_once_or_all_are_meant() {
        let of = |arguments: &[&str]| {
            let arguments = ["test"].iter().chain(arguments).copied();
            Cli::try_parse_from(arguments).map(|cli| cli.settings.namespaces())
        };
        assert_eq!(of(&[]).unwrap(), [None]);
        let both = [Some("a".to_owned()), Some("b-2".to_owned())];
        assert_eq!(of(&["--watch-namespaces=b-2,a,a"]).unwrap(), both);
        assert_eq!(of(&["--watch-namespaces=a", "--watch-namespaces=b-2"]).unwrap(), both);
        for wrong in ["", "A", "-a", "a-", "a b", "a,"] {
            assert!(of(&["--watch-namespaces", wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn pods_are_somebody_but_root() {
        assert_eq!("65532".parse(), Ok(PodUser::Number(65_532)));
        assert_eq!("namespace".parse(), Ok(PodUser::Namespace));
        for wrong in ["0", "-1", "root", "", "4294967296"] {
            assert!(wrong.parse::<PodUser>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn servers_have_a_scheme_and_a_host() {
        assert_eq!(server("https://mirror.example/").unwrap(), "https://mirror.example");
        assert_eq!(server("http://mirror.example:8080/hub").unwrap(), "http://mirror.example:8080/hub");
        for wrong in ["", "mirror.example", "https://", "ftp://mirror.example", "http://a b"] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
    }
}
