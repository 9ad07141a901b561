package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

const pluginsDir = "/usr/lib/cni"

func (s *state) node(name string) (*node, error) {
	for i := range s.Nodes {
		if s.Nodes[i].Name == name {
			return &s.Nodes[i], nil
		}
	}
	return nil, fmt.Errorf("there is no node %q: `status` lists them", name)
}

// startNode starts the node's pid 1 in namespaces of its own; it starts containerd, the kubelet and kube-proxy there.
func (s *state) startNode(name string) error {
	found, err := s.node(name)
	if err != nil {
		return err
	}
	if found.Init.alive() {
		return fmt.Errorf("%s is running", name)
	}
	// A machine that was switched off has nothing in /run.
	stale := os.RemoveAll(s.path("nodes", name, "run"))
	if err := errors.Join(stale, makeCgroups(s.cgroup(*found)), s.writeNodeFiles(*found)); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// Not `ip netns exec`: it mounts /sys anew, which hides the cgroups.
	argv := []string{
		"nsenter", "--net=/run/netns/" + s.namespace(*found),
		"unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--uts",
		self, "node", s.path("nodes", name), name, found.Address, strconv.FormatInt(found.Memory, 10), s.cgroup(*found),
	}
	if found.Init, err = spawn(name, s.path("logs", name+".log"), argv); err != nil {
		return err
	}
	return s.save()
}

// killNode ends the node as a power cut would: at once, telling nobody. Its disk stays.
func (s *state) killNode(name string) error {
	found, err := s.node(name)
	if err != nil {
		return err
	}
	// unshare --kill-child takes pid 1 along, and with pid 1 the kernel ends the whole pid namespace.
	found.Init.kill()
	found.Init = process{Name: name}
	// Containers' cgroups left behind cost the next start seconds each.
	return removeCgroups(s.cgroup(*found))
}

func (s *state) removeNodes() error {
	var errs []error
	for _, each := range s.Nodes {
		each.Init.kill()
		errs = append(errs, removeCgroups(s.cgroup(each)))
	}
	if len(s.Nodes) > 0 {
		errs = append(errs, removeCgroups(fmt.Sprintf("/lime%d", s.Slot)))
	}
	return errors.Join(errs...)
}

// awaitNodes waits until every node is Ready and has the pause image, without which no pod starts.
func (s *state) awaitNodes() error {
	if len(s.Nodes) == 0 {
		return nil
	}
	kubectl := s.bin().path("kubectl")
	if _, err := output(kubectl, "--kubeconfig="+s.kubeconfig(), "apply", "-f", s.path("nodes", "runtime-class.yaml")); err != nil {
		return err
	}
	for _, each := range s.Nodes {
		if err := s.awaitNode(each.Name); err != nil {
			return err
		}
	}
	pause, err := s.pauseImage()
	if err != nil {
		return err
	}
	return s.importImages([]string{pause})
}

func (s *state) awaitNode(name string) error {
	kubectl := s.bin().path("kubectl")
	found, err := s.node(name)
	if err != nil {
		return err
	}
	var last error
	ready := waitFor(60*time.Second, func() bool {
		_, last = output(kubectl, "--kubeconfig="+s.kubeconfig(), "wait", "--for=condition=Ready", "--timeout=2s", "node/"+name)
		return last == nil || !found.Init.alive()
	})
	switch {
	case !found.Init.alive():
		return fmt.Errorf("%s died: see %s", name, s.path("logs"))
	case !ready:
		return fmt.Errorf("%s is not Ready: %w: see %s", name, last, s.path("nodes", name, "log"))
	}
	return nil
}

// importImages loads OCI archives into the running nodes' containerds.
func (s *state) importImages(archives []string) error {
	for _, archive := range archives {
		if err := s.onEveryNode("import", "--local", archive); err != nil {
			return err
		}
	}
	return nil
}

// onEveryNode runs `ctr images` with the arguments on each running node.
func (s *state) onEveryNode(arguments ...string) error {
	for _, each := range s.Nodes {
		if !each.Init.alive() {
			continue
		}
		socket := s.path("nodes", each.Name, "run", "containerd", "containerd.sock")
		argv := append([]string{s.bin().path("ctr"), "--address=" + socket, "--namespace=k8s.io", "images"}, arguments...)
		if _, err := output(argv...); err != nil {
			return fmt.Errorf("%s: %w", each.Name, err)
		}
	}
	return nil
}

// pauseImage builds the program that holds a pod's namespaces, and one that takes memory, and packs them.
func (s *state) pauseImage() (string, error) {
	module, err := moduleDir()
	if err != nil {
		return "", err
	}
	archive := s.path("pause.tar")
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	root := s.path("pause-root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", err
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		return "", skipped{"real nodes need gcc, for the pause image"}
	}
	for _, program := range []string{"pause", "hog"} {
		source := filepath.Join(module, "nodes", program+".c")
		if _, err := output("gcc", "-static", "-Os", "-s", "-o", filepath.Join(root, program), source); err != nil {
			return "", err
		}
	}
	pack := filepath.Join(filepath.Dir(filepath.Dir(module)), "operator", "image", "oci-archive.sh")
	_, err = output(pack, root, archive, pauseImageName, "/pause")
	return archive, err
}
