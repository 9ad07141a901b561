package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	serviceRange   = "10.96.0.0/16"
	kubernetesHost = "10.96.0.1"
	readyPatience  = 120 * time.Second
)

// startControl starts etcd, the API server, the controllers and the scheduler, and waits until pods could be made.
func (s *state) startControl(withNodes bool) error {
	etcdPort, peerPort, err := twoFreePorts()
	if err != nil {
		return err
	}
	if s.Port, _, err = twoFreePorts(); err != nil {
		return err
	}
	if err := s.issueCertificates(); err != nil {
		return err
	}
	etcd := fmt.Sprintf("http://127.0.0.1:%d", etcdPort)
	peers := fmt.Sprintf("http://127.0.0.1:%d", peerPort)
	if err := s.start("etcd",
		"--name=lime", "--data-dir="+s.path("etcd"), "--log-level=warn", "--unsafe-no-fsync",
		"--listen-client-urls="+etcd, "--advertise-client-urls="+etcd,
		"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=lime="+peers,
	); err != nil {
		return err
	}
	if err := s.writeAuditPolicy(); err != nil {
		return err
	}
	if err := s.start("kube-apiserver", s.apiServerFlags(etcd, withNodes)...); err != nil {
		return err
	}
	if err := s.awaitReady("kube-apiserver"); err != nil {
		return err
	}
	for _, server := range []struct {
		name, user string
		flags      []string
	}{
		{"kube-controller-manager", "controllers", []string{
			"--service-account-private-key-file=" + s.pki("tokens.key"), "--root-ca-file=" + s.pki("ca.crt"),
			"--use-service-account-credentials", "--node-monitor-grace-period=16s", "--node-monitor-period=2s",
		}},
		{"kube-scheduler", "scheduler", nil},
	} {
		if s.bin().path(server.name) == "" {
			fmt.Fprintf(os.Stderr, "%s is not at hand: not started\n", server.name)
			continue
		}
		config := s.path(server.user + ".kubeconfig")
		flags := append(server.flags,
			"--kubeconfig="+config, "--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config,
			"--bind-address=127.0.0.1", "--secure-port=0", "--leader-elect=false")
		if err := s.start(server.name, flags...); err != nil {
			return err
		}
	}
	if s.bin().path("kube-controller-manager") == "" {
		return nil
	}
	// A pod needs its namespace's service account, which a controller makes.
	return s.await("the default service account", "/api/v1/namespaces/default/serviceaccounts/default", "kube-controller-manager")
}

func (s *state) apiServerFlags(etcd string, withNodes bool) []string {
	flags := []string{
		"--etcd-servers=" + etcd, fmt.Sprintf("--secure-port=%d", s.Port),
		"--tls-cert-file=" + s.pki("apiserver.crt"), "--tls-private-key-file=" + s.pki("apiserver.key"),
		"--client-ca-file=" + s.pki("ca.crt"), "--allow-privileged", "--profiling=false",
		"--service-cluster-ip-range=" + serviceRange, "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + s.pki("tokens.pub"), "--service-account-signing-key-file=" + s.pki("tokens.key"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--kubelet-client-certificate=" + s.pki("admin.crt"), "--kubelet-client-key=" + s.pki("admin.key"),
		"--kubelet-certificate-authority=" + s.pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--audit-policy-file=" + s.path("audit.yaml"), "--audit-log-path=" + s.auditLog(), "--audit-log-mode=blocking",
	}
	if withNodes {
		return append(flags, "--bind-address=0.0.0.0", "--advertise-address="+s.hubAddress())
	}
	return append(flags, "--bind-address=127.0.0.1", "--endpoint-reconciler-type=none")
}

// Who wrote what: tests of what is written at rest read it, and so does who looks for whoever changed an object.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- {level: Metadata, verbs: [create, update, patch, delete, deletecollection]}
- {level: None}
`

func (s *state) auditLog() string { return s.path("logs", "audit.log") }

func (s *state) writeAuditPolicy() error {
	return os.WriteFile(s.path("audit.yaml"), []byte(auditPolicy), 0o600)
}

func (s *state) pki(file string) string { return s.path("pki", file) }

func (s *state) server() string { return fmt.Sprintf("https://127.0.0.1:%d", s.Port) }

func (s *state) issueCertificates() error {
	ca, err := newAuthority(s.path("pki"))
	if err != nil {
		return err
	}
	admin := identity{file: "admin", user: "lime-test-admin", groups: []string{"system:masters"}}
	controllers := identity{file: "controllers", user: "system:kube-controller-manager"}
	scheduler := identity{file: "scheduler", user: "system:kube-scheduler"}
	apiserver := identity{file: "apiserver", user: "kube-apiserver", hosts: []string{
		"localhost", "127.0.0.1", kubernetesHost, s.hubAddress(),
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}}
	proxy := identity{file: "proxy", user: "system:kube-proxy"}
	all := []identity{admin, controllers, scheduler, apiserver, proxy}
	for _, each := range s.Nodes {
		all = append(all, each.identity())
	}
	for _, who := range all {
		if err := ca.issue(who); err != nil {
			return err
		}
	}
	errs := []error{
		ca.signingKey("tokens"),
		ca.kubeconfig(s.kubeconfig(), s.server(), admin),
		ca.kubeconfig(s.path("controllers.kubeconfig"), s.server(), controllers),
		ca.kubeconfig(s.path("scheduler.kubeconfig"), s.server(), scheduler),
	}
	fromNodes := fmt.Sprintf("https://%s:%d", s.hubAddress(), s.Port)
	errs = append(errs, ca.kubeconfig(s.path("proxy.kubeconfig"), fromNodes, proxy))
	for _, each := range s.Nodes {
		errs = append(errs, ca.kubeconfig(s.path(each.Name+".kubeconfig"), fromNodes, each.identity()))
	}
	return errors.Join(errs...)
}

func (n node) identity() identity {
	return identity{
		file: n.Name, user: "system:node:" + n.Name, groups: []string{"system:nodes"},
		hosts: []string{n.Name, n.Address},
	}
}

func (s *state) start(name string, flags ...string) error {
	binary := s.bin().path(name)
	if binary == "" {
		return fmt.Errorf("there is no %s in %v", name, s.Folders)
	}
	started, err := spawn(name, s.path("logs", name+".log"), append([]string{binary}, flags...))
	if err != nil {
		return err
	}
	s.Servers = append(s.Servers, started)
	return s.save()
}

func (s *state) awaitReady(server string) error { return s.await("the API server", "/readyz", server) }

// await asks the API server as the administrator until the path answers 200, or the server that should see to it dies.
func (s *state) await(what, path, server string) error {
	client, err := s.adminClient()
	if err != nil {
		return err
	}
	last := "no answer yet"
	alive := true
	found := waitFor(readyPatience, func() bool {
		response, err := client.Get(s.server() + path)
		if err != nil {
			last = err.Error()
		} else {
			response.Body.Close()
			last = response.Status
		}
		alive = s.alive(server)
		return err == nil && response.StatusCode == http.StatusOK || !alive
	})
	switch {
	case !alive:
		return fmt.Errorf("%s died: see %s", server, s.path("logs", server+".log"))
	case !found:
		return fmt.Errorf("%s is not there after %v (%s): see %s", what, readyPatience, last, s.path("logs"))
	}
	return nil
}

func (s *state) alive(server string) bool {
	for _, each := range s.Servers {
		if each.Name == server {
			return each.alive()
		}
	}
	return false
}

func (s *state) adminClient() (*http.Client, error) {
	pair, err := tls.LoadX509KeyPair(s.pki("admin.crt"), s.pki("admin.key"))
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(s.pki("ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	config := &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots}
	dialer := &net.Dialer{Timeout: 2 * time.Second}
	return &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: config, DialContext: dialer.DialContext, Proxy: nil},
	}, nil
}

// twoFreePorts asks the kernel. Somebody may take one before we do: the server then dies, and says so.
func twoFreePorts() (int, int, error) {
	var listen net.ListenConfig
	var ports [2]int
	for i := range ports {
		listener, err := listen.Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return 0, 0, err
		}
		defer listener.Close()
		ports[i] = listener.Addr().(*net.TCPAddr).Port
	}
	return ports[0], ports[1], nil
}
