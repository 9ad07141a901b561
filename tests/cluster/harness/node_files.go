package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// The image that holds each pod's namespaces.
const pauseImageName = "lime.dev/test/pause:1"

// writeNodeFiles lays out a node's folder: bin/ for its binaries, lib/ for what will be its /var/lib.
func (s *state) writeNodeFiles(n node) error {
	folder := s.path("nodes", n.Name)
	etc := filepath.Join(folder, "lib", "lime-node")
	for _, each := range []string{etc, filepath.Join(etc, "cni"), filepath.Join(folder, "bin")} {
		if err := os.MkdirAll(each, 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "ctr", "kubelet", "kube-proxy"} {
		target := s.bin().path(name)
		if target == "" {
			return fmt.Errorf("real nodes need %s, which is not in %v", name, s.Folders)
		}
		link := filepath.Join(folder, "bin", name)
		_ = os.Remove(link)
		if err := os.Symlink(target, link); err != nil {
			return err
		}
	}
	copies := map[string]string{
		s.path(n.Name + ".kubeconfig"): "kubeconfig",
		s.path("proxy.kubeconfig"):     "proxy.kubeconfig",
	}
	for from, to := range copies {
		content, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(etc, to), content, 0o600); err != nil {
			return err
		}
	}
	files := map[string]string{
		filepath.Join(etc, "containerd.toml"):         s.containerdConfig(n),
		filepath.Join(etc, "kubelet.yaml"):            s.kubeletConfig(n),
		filepath.Join(etc, "proxy.yaml"):              s.proxyConfig(n),
		filepath.Join(etc, "cni", "10-lime.conflist"): s.networkConfig(n),
		s.path("nodes", "runtime-class.yaml"):         runtimeClass,
	}
	if n.Memory > 0 {
		if err := s.writeBaseSpec(filepath.Join(etc, filepath.Base(baseSpec))); err != nil {
			return err
		}
	}
	for path, content := range files {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Without CAP_SYS_RESOURCE, as here, a process cannot be made less likely to be killed for memory: hence the restriction.
func (s *state) containerdConfig(n node) string {
	base := ""
	if n.Memory > 0 {
		base = fmt.Sprintf("base_runtime_spec = %q\n", baseSpec)
	}
	return `version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "` + pauseImageName + `"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
` + base + `
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["` + pluginsDir + `"]
conf_dir = "/var/lib/lime-node/cni"
`
}

func (s *state) kubeletConfig(n node) string {
	// What the kubelet evicts for is the whole machine's memory, which is none of a small node's business.
	eviction := "memory.available: 50Mi, "
	if n.Memory > 0 {
		eviction = ""
	}
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %q}}
authorization: {mode: Webhook}
tlsCertFile: %q
tlsPrivateKeyFile: %q
address: %q
cgroupDriver: cgroupfs
cgroupRoot: %q
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
resolvConf: ""
localStorageCapacityIsolation: false
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {%snodefs.available: 1%%, nodefs.inodesFree: 1%%, imagefs.available: 1%%}
nodeStatusUpdateFrequency: 4s
nodeLeaseDurationSeconds: 16
syncFrequency: 5s
logging: {verbosity: 1}
`, s.pki("ca.crt"), s.pki(n.Name+".crt"), s.pki(n.Name+".key"), n.Address, s.cgroup(n), eviction)
}

func (s *state) proxyConfig(n node) string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: /var/lib/lime-node/proxy.kubeconfig}
hostnameOverride: %q
mode: iptables
clusterCIDR: %q
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
metricsBindAddress: ""
healthzBindAddress: ""
`, n.Name, s.subnet("0.0/16"))
}

func (s *state) networkConfig(n node) string {
	return fmt.Sprintf(`{
  "cniVersion": "1.0.0",
  "name": "lime",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "pods",
      "isGateway": true,
      "ipMasq": false,
      "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": %q}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": "/run/cni-addresses"
      }
    }
  ]
}
`, s.podRange(n.Index))
}

// Jetsons name their runtime "nvidia"; here it is runc, so that deployments which ask for it run.
const runtimeClass = `apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: nvidia}
handler: runc
`
