package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// The machine-wide settings that a kubelet would change: in a node it writes to files over them instead.
var kubeletSysctls = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// The folders in which a node's servers keep things at their usual paths: each node has its own.
var nodeFolders = map[string]string{"lib": "/var/lib", "log": "/var/log", "run": "/run"}

// nodeMain is a node's pid 1, in fresh namespaces: it lays the node's folders over the machine's, starts the servers,
// reaps what is orphaned, and ends with all of them when one of them dies.
func nodeMain(args []string) error {
	if len(args) != 5 || os.Getpid() != 1 {
		return errors.New("`node` is for `up`, which starts it in namespaces of its own")
	}
	folder, name, address, cgroup := args[0], args[1], args[2], args[4]
	memory, err := strconv.ParseInt(args[3], 10, 64)
	if err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte(name)); err != nil {
		return err
	}
	binaries, err := resolveServers(folder)
	if err != nil {
		return err
	}
	if err := layMounts(folder); err != nil {
		return err
	}
	if err := layForwarding(); err != nil {
		return err
	}
	if memory > 0 {
		if err := layMemory(memory, cgroup); err != nil {
			return err
		}
	}
	return superviseServers([][]string{
		{binaries["containerd"], "--config=/var/lib/lime-node/containerd.toml"},
		{
			binaries["kubelet"], "--config=/var/lib/lime-node/kubelet.yaml",
			"--kubeconfig=/var/lib/lime-node/kubeconfig", "--hostname-override=" + name, "--node-ip=" + address,
			"--node-labels=lime.dev/test-node=" + name,
		},
		{binaries["kube-proxy"], "--config=/var/lib/lime-node/proxy.yaml"},
	})
}

// resolveServers reads where the binaries are, before anything is mounted over the way to them.
func resolveServers(folder string) (map[string]string, error) {
	bin := filepath.Join(folder, "bin")
	found := map[string]string{}
	for _, name := range []string{"containerd", "kubelet", "kube-proxy"} {
		file := filepath.Join(bin, name)
		if _, err := os.Stat(file); err != nil {
			return nil, err
		}
		found[name] = file
	}
	return found, os.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

func layMounts(folder string) error {
	for relative, target := range nodeFolders {
		source := filepath.Join(folder, relative)
		if err := os.MkdirAll(source, 0o755); err != nil {
			return err
		}
		if err := bind(source, target); err != nil {
			return err
		}
	}
	for setting, value := range kubeletSysctls {
		file := filepath.Join(folder, "sysctl", setting)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := bind(file, "/proc/sys/"+setting); err != nil {
			return err
		}
	}
	// Volumes that the kubelet mounts must appear in containers: mounts propagate within the node, and never out of it.
	if err := syscall.Mount("", "/", "", syscall.MS_SHARED|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("sharing mounts within the node: %w", err)
	}
	return nil
}

func bind(source, target string) error {
	if err := syscall.Mount(source, target, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting %s over %s: %w", source, target, err)
	}
	return nil
}

// layForwarding makes the node a router between its pods and the others; the setting is the network namespace's own.
func layForwarding() error {
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1\n"), 0o644)
}

func superviseServers(servers [][]string) error {
	names := map[int]string{}
	for _, argv := range servers {
		name := filepath.Base(argv[0])
		log, err := os.OpenFile("/var/log/"+name+".log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return err
		}
		null, err := os.Open(os.DevNull)
		if err != nil {
			return err
		}
		started, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
			Dir: "/", Env: os.Environ(), Files: []*os.File{null, log, log},
			Sys: &syscall.SysProcAttr{Setsid: true},
		})
		if err != nil {
			return fmt.Errorf("starting %s: %w", name, err)
		}
		names[started.Pid] = name
		if name == "containerd" && !waitFor(20*time.Second, containerdListens) {
			return errors.New("containerd does not listen: see containerd.log")
		}
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	dead := make(chan string)
	// Waits for every child with one call, also for orphans, which os/exec would never reap.
	go func() {
		for {
			pid, err := syscall.Wait4(-1, nil, 0, nil)
			if err == nil && names[pid] != "" {
				dead <- names[pid]
			}
		}
	}()
	select {
	case name := <-dead:
		return fmt.Errorf("%s died: see %s.log", name, name)
	case <-stop:
		return nil // The kernel ends the rest of the pid namespace with us.
	}
}

func containerdListens() bool {
	_, err := os.Stat("/run/containerd/containerd.sock")
	return err == nil
}
