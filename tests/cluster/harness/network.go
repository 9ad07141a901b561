package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	maxNodes = 8
	maxSlots = 16
)

// Addresses: each cluster on the machine has a slot, and with it a bridge and 10.SLOT+80.0.0/16. The hub, this machine's
// own end of the bridge, is .0.1; node i is .0.(10+i), and its pods are .i.0/24.
func (s *state) subnet(tail string) string { return fmt.Sprintf("10.%d.%s", 80+s.Slot, tail) }
func (s *state) hubAddress() string        { return s.subnet("0.1") }
func (s *state) bridge() string            { return fmt.Sprintf("lime%d", s.Slot) }
func (s *state) podRange(index int) string { return s.subnet(fmt.Sprintf("%d.0/24", index)) }
func (s *state) namespace(n node) string   { return fmt.Sprintf("lime%d-%s", s.Slot, n.Name) }
func (s *state) cgroup(n node) string      { return fmt.Sprintf("/lime%d/%s", s.Slot, n.Name) }

// nodesPossible says what real nodes need and this machine lacks.
func nodesPossible() error {
	if os.Geteuid() != 0 {
		return skipped{"real nodes need root, for namespaces and cgroups"}
	}
	for _, tool := range []struct{ name, from string }{
		{"runc", "runc"}, {"ip", "iproute2"}, {"nsenter", "util-linux"}, {"iptables", "iptables"},
	} {
		if _, err := exec.LookPath(tool.name); err != nil {
			return skipped{fmt.Sprintf("real nodes need %s (Debian package %s)", tool.name, tool.from)}
		}
	}
	if _, err := os.Stat(filepath.Join(pluginsDir, "bridge")); err != nil {
		return skipped{"real nodes need CNI plugins in " + pluginsDir + " (Debian package containernetworking-plugins)"}
	}
	// Root in a container may lack either.
	if _, err := output("unshare", "--net", "--pid", "--fork", "--mount", "--uts", "true"); err != nil {
		return skipped{"real nodes need namespaces, which this machine does not let us make: " + lastLine(err.Error())}
	}
	probe := fmt.Sprintf("/lime-probe-%d", os.Getpid())
	if err := errors.Join(makeCgroups(probe), removeCgroups(probe)); err != nil {
		return skipped{"real nodes need cgroups, which this machine does not let us make: " + lastLine(err.Error())}
	}
	return nil
}

// makeNetwork takes the first free slot and lays a bridge with one network namespace for each node.
func (s *state) makeNetwork(count int, memory []int64) error {
	if err := s.takeSlot(); err != nil {
		return err
	}
	commands := []string{
		fmt.Sprintf("ip address add %s/24 dev %s", s.hubAddress(), s.bridge()),
		fmt.Sprintf("ip link set %s up", s.bridge()),
	}
	for i := 1; i <= count; i++ {
		each := node{Name: fmt.Sprintf("node-%d", i), Index: i, Address: s.subnet(fmt.Sprintf("0.%d", 10+i))}
		if len(memory) > 0 {
			each.Memory = memory[min(i, len(memory))-1]
		}
		s.Nodes = append(s.Nodes, each)
		namespace, outside := s.namespace(each), fmt.Sprintf("%s-%d", s.bridge(), i)
		inside := "ip -n " + namespace + " "
		commands = append(commands,
			"ip netns add "+namespace,
			fmt.Sprintf("ip link add %s type veth peer name eth0 netns %s", outside, namespace),
			fmt.Sprintf("ip link set %s master %s up", outside, s.bridge()),
			inside+"link set lo up",
			fmt.Sprintf("%saddress add %s/24 dev eth0", inside, each.Address),
			inside+"link set eth0 up",
			inside+"route add default via "+s.hubAddress(),
			// This machine reaches the node's pods through the node.
			fmt.Sprintf("ip route add %s via %s", s.podRange(i), each.Address),
		)
	}
	// Every node reaches every other node's pods through that node.
	for _, from := range s.Nodes {
		for _, to := range s.Nodes {
			if from.Index != to.Index {
				commands = append(commands, fmt.Sprintf("ip -n %s route add %s via %s", s.namespace(from), s.podRange(to.Index), to.Address))
			}
		}
	}
	if err := s.save(); err != nil {
		return err
	}
	for _, command := range commands {
		if _, err := output(strings.Fields(command)...); err != nil {
			return err
		}
	}
	return nil
}

func (s *state) takeSlot() error {
	var last error
	for s.Slot = range maxSlots {
		// Making the bridge is what takes the slot: only one can.
		if _, last = output("ip", "link", "add", s.bridge(), "type", "bridge"); last == nil {
			return nil
		}
	}
	return fmt.Errorf("no free slot for a bridge: %w", last)
}

func (s *state) removeNetwork() error {
	if len(s.Nodes) == 0 {
		return nil
	}
	var errs []error
	for _, each := range s.Nodes {
		if _, err := os.Stat(filepath.Join("/run/netns", s.namespace(each))); err == nil {
			_, err := output("ip", "netns", "delete", s.namespace(each))
			errs = append(errs, err)
		}
	}
	// The namespaces take their ends of the links along; routes go with the bridge.
	if _, err := os.Stat("/sys/class/net/" + s.bridge()); err == nil {
		_, err := output("ip", "link", "delete", s.bridge())
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
