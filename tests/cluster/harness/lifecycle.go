package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type options struct {
	nodes  int
	memory []int64 // Of the first node, the second …; the last counts for those after it.
}

// parseOptions reads our flags, up to `--` or the first word that is none.
func parseOptions(args []string) (options, []string, error) {
	var read options
	for len(args) > 0 {
		switch {
		case args[0] == "--":
			return read, args[1:], nil
		case args[0] == "--nodes" && len(args) > 1:
			count, err := strconv.Atoi(args[1])
			if err != nil || count < 0 || count > maxNodes {
				return read, nil, fmt.Errorf("--nodes %s: a number from 0 to %d", args[1], maxNodes)
			}
			read.nodes = count
			args = args[2:]
		case args[0] == "--memory" && len(args) > 1:
			for _, each := range strings.Split(args[1], ",") {
				bytes, err := parseSize(each)
				if err != nil {
					return read, nil, fmt.Errorf("--memory: %w", err)
				}
				read.memory = append(read.memory, bytes)
			}
			args = args[2:]
		default:
			return read, args, nil
		}
	}
	return read, nil, nil
}

// up starts a cluster. One that an earlier, interrupted call left in the same folder is taken down first.
func up(at place, want options) (made *state, err error) {
	if err := down(at); err != nil {
		return nil, err
	}
	if want.nodes > 0 {
		if err := nodesPossible(); err != nil {
			return nil, err
		}
	}
	found, err := findBinaries()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(at.state, 0o755); err != nil {
		return nil, err
	}
	began := time.Now()
	made = &state{Dir: at.state, Folders: found.folders}
	// From here on there is something to take away, whatever goes wrong.
	defer func() {
		if err != nil {
			err = errors.Join(err, keepLogs(at), down(at))
		}
	}()
	if want.nodes > 0 {
		if err := made.makeNetwork(want.nodes, want.memory); err != nil {
			return made, err
		}
	}
	if err := made.save(); err != nil {
		return made, err
	}
	if err := made.startControl(want.nodes > 0); err != nil {
		return made, err
	}
	for _, each := range made.Nodes {
		if err := made.startNode(each.Name); err != nil {
			return made, err
		}
	}
	if err := made.awaitNodes(); err != nil {
		return made, err
	}
	made.ReadyAfter = time.Since(began).Seconds()
	return made, made.save()
}

// keepLogs saves the servers' words from the folder that is about to go.
func keepLogs(at place) error {
	kept := at.state + "-failed-logs"
	if err := os.RemoveAll(kept); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(at.state, "logs"), kept); err != nil {
		return nil // No server had started: there is nothing to keep.
	}
	fmt.Fprintln(os.Stderr, "the servers' logs are in", kept)
	return nil
}

func report(s *state, err error) error {
	if err != nil {
		return err
	}
	fmt.Printf("ready after %.1f s: export KUBECONFIG=%s\n", s.ReadyAfter, s.kubeconfig())
	return nil
}

// down is idempotent: it removes whatever is there, and does nothing where nothing is.
func down(at place) error {
	found, err := load(at)
	if err != nil || found == nil {
		return err
	}
	errs := []error{found.removeNodes()}
	for _, server := range slices.Backward(found.Servers) {
		server.stop(10 * time.Second)
		if server.alive() {
			errs = append(errs, fmt.Errorf("%s (process %d) does not end", server.Name, server.PID))
		}
	}
	errs = append(errs, found.removeNetwork())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w\nwhat is left is listed in %s: run `down` again", err, found.path("state.json"))
	}
	return os.RemoveAll(at.state)
}

// run carries a command: the cluster lives exactly as long as it does.
func run(at place, want options, command []string) error {
	if len(command) == 0 {
		return errors.New("run what? tests/cluster/cluster run [--nodes N] -- COMMAND")
	}
	if os.Getenv("LIME_TEST_CLUSTER") == "kubeconfig" {
		return carry(command, os.Environ(), nil)
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(interrupts)
	made, err := up(at, want)
	if err != nil {
		return err
	}
	fmt.Printf("Kubernetes is ready after %.1f s\n", made.ReadyAfter)
	select {
	case <-interrupts:
		return errors.Join(down(at), exitCode(130))
	default:
	}
	failed := carry(command, made.environment(), interrupts)
	if failed != nil {
		failed = errors.Join(failed, keepLogs(at))
	}
	return errors.Join(failed, down(at))
}

// carry runs the command to its end. Whoever interrupts us interrupts it: it ends, and then we clean up.
func carry(command, environment []string, interrupts <-chan os.Signal) error {
	child := exec.Command(command[0], command[1:]...)
	child.Env = environment
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := child.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	for {
		select {
		case interrupt := <-interrupts:
			_ = child.Process.Signal(interrupt)
		case err := <-ended:
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				// Ended by a signal it is -1, which no process can end with.
				return exitCode(max(exit.ExitCode(), 1))
			}
			return err
		}
	}
}

func (s *state) environment() []string {
	return append(os.Environ(),
		"KUBECONFIG="+s.kubeconfig(),
		"PATH="+s.searchPath(),
		"LIME_TEST_CLUSTER=1",
		"LIME_CLUSTER_DIR="+s.Dir,
		fmt.Sprintf("LIME_TEST_NODES=%d", len(s.Nodes)),
		fmt.Sprintf("LIME_TEST_NODE_MEMORY=%d", s.leastMemory()),
		"LIME_TEST_AUDIT="+s.auditLog())
}

// leastMemory is that of the smallest node; 0 where they take the whole machine's.
func (s *state) leastMemory() int64 {
	var least int64
	for _, each := range s.Nodes {
		if least == 0 || each.Memory < least {
			least = each.Memory
		}
	}
	return least
}

func (s *state) searchPath() string {
	return strings.Join(append(slices.Clone(s.Folders), os.Getenv("PATH")), ":")
}

func printEnv(at place) error {
	return withState(at, func(s *state) error {
		fmt.Printf("export KUBECONFIG='%s'\nexport PATH='%s'\n", s.kubeconfig(), s.searchPath())
		return nil
	})
}

func status(at place) error {
	found, err := load(at)
	if err != nil {
		return err
	}
	if found == nil {
		fmt.Println("no cluster runs here")
		return exitCode(1)
	}
	fmt.Printf("kubeconfig %s\nready after %.1f s\n", found.kubeconfig(), found.ReadyAfter)
	processes := slices.Clone(found.Servers)
	for _, each := range found.Nodes {
		processes = append(processes, each.Init)
	}
	for _, each := range processes {
		condition := fmt.Sprintf("%4d MiB", each.residentKiB()/1024)
		if !each.alive() {
			condition = "not running"
		}
		fmt.Printf("  %-24s %8d  %s\n", each.Name, each.PID, condition)
	}
	return nil
}
