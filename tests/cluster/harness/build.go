package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The names by which the one binary made of main.go is started.
var kubeNames = []string{
	"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl",
}

// The `tool` lines of go.mod, each a binary of its own.
var toolPackages = []string{
	"helm.sh/helm/v4/cmd/helm",
	"github.com/containerd/containerd/v2/cmd/containerd",
	"github.com/containerd/containerd/v2/cmd/ctr",
	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
}

// What a folder is called while it is built.
const partialPrefix = "partial-"

// build makes the binaries once for each content of the module, in a cache outside the tree, and returns their folder.
func build() (string, error) {
	module, err := moduleDir()
	if err != nil {
		return "", err
	}
	digest := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		content, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(digest, "%s %d\n", name, len(content))
		digest.Write(content)
	}
	caches, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder: %w (set XDG_CACHE_HOME or HOME)", err)
	}
	root := filepath.Join(caches, "lime", "cluster")
	ready := filepath.Join(root, fmt.Sprintf("%x", digest.Sum(nil))[:16])
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(root, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	// Only one builds at a time, so what others left half done is nobody's.
	if err := removeLeftovers(root); err != nil {
		return "", err
	}
	if _, err := os.Stat(ready); err == nil {
		return ready, nil
	}
	if err := modulesAtHand(module); err != nil {
		return "", err
	}
	began := time.Now()
	fmt.Fprintln(os.Stderr, "building Kubernetes, etcd, containerd and Helm, once: about ten minutes of processor time")
	partial, err := os.MkdirTemp(root, partialPrefix)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(partial)
	// Whoever interrupts us interrupts the build, and the folder goes.
	interrupted, done := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer done()
	if err := compile(interrupted, module, partial); err != nil {
		return "", err
	}
	for _, name := range kubeNames {
		if err := os.Symlink("kube", filepath.Join(partial, name)); err != nil {
			return "", err
		}
	}
	if err := os.Chmod(partial, 0o755); err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "built in %.0f s: %s\n", time.Since(began).Seconds(), ready)
	return ready, os.Rename(partial, ready)
}

// removeLeftovers removes the folders of builds that were killed.
func removeLeftovers(root string) error {
	found, err := filepath.Glob(filepath.Join(root, partialPrefix+"*"))
	for _, each := range found {
		err = errors.Join(err, os.RemoveAll(each))
	}
	return err
}

func compile(until context.Context, module, into string) error {
	version, err := output("go", "-C", module, "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
	if err != nil {
		return err
	}
	stamp := "-X k8s.io/component-base/version.gitVersion=" + strings.TrimSpace(version)
	builds := [][]string{{"-ldflags=-s -w " + stamp, "-o", filepath.Join(into, "kube"), "."}}
	for _, tool := range toolPackages {
		builds = append(builds, []string{"-ldflags=-s -w", "-o", filepath.Join(into, filepath.Base(tool)), tool})
	}
	// Go's own folder lies in ours, so that a build that is killed leaves nothing that the next one does not remove.
	scratch := filepath.Join(into, "go-build")
	if err := os.Mkdir(scratch, 0o755); err != nil {
		return err
	}
	// A child that is to die with us is told by the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, arguments := range builds {
		command := goBuild(until, module, scratch, arguments)
		if err := command.Run(); err != nil {
			return errors.Join(context.Cause(until), fmt.Errorf("go build %s: %w", arguments[len(arguments)-1], err))
		}
	}
	return os.RemoveAll(scratch)
}

// goBuild has every processor and no lower priority than its caller: a suite waits for it, and behind whatever else a busy machine
// does it would never end.
func goBuild(until context.Context, module, scratch string, arguments []string) *exec.Cmd {
	command := exec.CommandContext(until, "go", append([]string{"-C", module, "build", "-trimpath"}, arguments...)...)
	command.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOTMPDIR="+scratch)
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return command
}

// modulesAtHand tells a machine without the modules, which is skipped, from a build that fails, which is an error.
func modulesAtHand(module string) error {
	if _, err := exec.LookPath("go"); err != nil {
		return skipped{"Go is not installed, so Kubernetes cannot be built (set KUBEBUILDER_ASSETS for one that is)"}
	}
	packages := append([]string{"go", "-C", module, "list", "-deps", "."}, toolPackages...)
	if _, err := output(packages...); err != nil {
		return skipped{"the Go modules cannot be had: " + lastLine(err.Error())}
	}
	return nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// binaries is where each server is: a folder of the user's first, then ours.
type binaries struct{ folders []string }

func findBinaries() (binaries, error) {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		built, err := build()
		return binaries{[]string{built}}, err
	}
	found := binaries{[]string{assets}}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if found.path(name) == "" {
			return found, fmt.Errorf("KUBEBUILDER_ASSETS=%s holds no %s", assets, name)
		}
	}
	if !slices.ContainsFunc(kubeNames, func(name string) bool { return found.path(name) == "" }) {
		return found, nil
	}
	built, err := build()
	var skip skipped
	if errors.As(err, &skip) {
		fmt.Fprintln(os.Stderr, "only what KUBEBUILDER_ASSETS holds is started;", skip.why)
		return found, nil
	}
	found.folders = append(found.folders, built)
	return found, err
}

// path is the binary's file, or empty when there is none.
func (b binaries) path(name string) string {
	for _, folder := range b.folders {
		file := filepath.Join(folder, name)
		if info, err := os.Stat(file); err == nil && info.Mode()&0o111 != 0 {
			return file
		}
	}
	return ""
}

// lock waits for a file lock and returns what lets go of it.
func lock(path string) (func(), error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		return func() { file.Close() }, nil
	}
	fmt.Fprintln(os.Stderr, "waiting for another process that builds:", path)
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		file.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return func() { file.Close() }, nil
}
