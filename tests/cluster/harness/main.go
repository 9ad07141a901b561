// Command cluster makes a small real Kubernetes on one machine, for tests, and takes all of it away again.
//
// The control plane listens on loopback. With nodes, each node is a kubelet and a containerd of its own in network,
// pid, mount and uts namespaces made here. README.md beside this folder says how to use it and what it costs.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

const usage = `usage: tests/cluster/cluster COMMAND

  up [--nodes N [--memory SIZE]]
                            start a control plane, and N real nodes (of so much memory each: 1536Mi, or 2Gi,1Gi,512Mi for unlike
                            ones, of which the last counts for all after it); says where its kubeconfig is
  run [--nodes N …] -- CMD  up, then CMD with KUBECONFIG and PATH set, then down, whatever happened
  down                      stop everything and remove what it left
  status                    what is running
  env                       lines for a shell: eval "$(tests/cluster/cluster env)"
  image FILE...             import OCI archives on every node
  tag-image NAME NEW        give an image of the nodes another name too
  kill-node NAME            switch a node off as a power cut would
  start-node NAME           switch it on again
  build                     only build the binaries

LIME_CLUSTER_DIR     where it keeps its state (default: target/cluster in the repository)
KUBEBUILDER_ASSETS   a folder with etcd, kube-apiserver (and more) to use in place of what would be built
LIME_TEST_CLUSTER    'kubeconfig': use the cluster that KUBECONFIG names, and start nothing
`

// skipped is what cannot be had on this machine: no failure of ours, and no pass either.
type skipped struct{ why string }

func (s skipped) Error() string { return "skipped: " + s.why }

func main() {
	err := dispatch(os.Args[1:])
	var skip skipped
	var code exitCode
	switch {
	case err == nil:
	case errors.As(err, &code):
		os.Exit(int(code))
	case errors.As(err, &skip):
		banner(skip)
		// `run` carries a test suite: it goes on without us. Every other caller asked for the cluster itself.
		if len(os.Args) < 2 || os.Args[1] != "run" {
			os.Exit(3)
		}
	default:
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func banner(skip skipped) {
	line := strings.Repeat("*", 78)
	fmt.Printf("%s\n%s\nThe cluster suite ran no test.\n%s\n", line, skip, line)
}

func dispatch(args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return exitCode(2)
	}
	place, err := locate()
	if err != nil {
		return err
	}
	verb, args := args[0], args[1:]
	switch verb {
	case "build":
		_, err := build()
		return err
	case "up":
		options, rest, err := parseOptions(args)
		if err != nil || len(rest) > 0 {
			return errors.Join(err, unexpected(rest))
		}
		return report(up(place, options))
	case "run":
		options, command, err := parseOptions(args)
		if err != nil {
			return err
		}
		return run(place, options, command)
	case "down":
		return down(place)
	case "status":
		return status(place)
	case "env":
		return printEnv(place)
	case "image":
		return withState(place, func(s *state) error { return s.importImages(args) })
	case "tag-image":
		if len(args) != 2 {
			return errors.New("name the image, and what it is to be called too")
		}
		return withState(place, func(s *state) error { return s.onEveryNode("tag", "--force", args[0], args[1]) })
	case "kill-node":
		return withNode(place, args, (*state).killNode)
	case "start-node":
		return withNode(place, args, (*state).startNode)
	case "node":
		return nodeMain(args)
	case "help", "-h", "--help":
		fmt.Print(usage)
		return nil
	}
	fmt.Fprintf(os.Stderr, "error: there is no command %q\n\n%s", verb, usage)
	return exitCode(2)
}

func withNode(at place, args []string, act func(*state, string) error) error {
	if len(args) != 1 {
		return errors.New("name one node; `status` lists them")
	}
	return withState(at, func(s *state) error { return act(s, args[0]) })
}

func unexpected(rest []string) error {
	if len(rest) == 0 {
		return nil
	}
	return fmt.Errorf("unexpected argument %q", rest[0])
}
