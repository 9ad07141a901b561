package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestKilledBuildsLeaveNothing(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{partialPrefix + "1", partialPrefix + "2", "0123456789abcdef"} {
		if err := os.MkdirAll(filepath.Join(root, name, "go-build", "b001"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeLeftovers(root); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(root)
	if err != nil || len(left) != 1 || left[0].Name() != "0123456789abcdef" {
		t.Errorf("what is left: %v, %v", left, err)
	}
}

func TestBuildsDoNotStarve(t *testing.T) {
	command := goBuild(context.Background(), "module", "scratch", []string{"."})
	if filepath.Base(command.Args[0]) != "go" || slices.Contains(command.Args, "-p") {
		t.Errorf("a suite waits for it: %v", command.Args)
	}
	if !slices.Contains(command.Env, "GOTMPDIR=scratch") {
		t.Error("Go's own folder is left behind when it is killed")
	}
}

func TestSizes(t *testing.T) {
	for text, bytes := range map[string]int64{"1536Mi": 1536 << 20, "2Gi": 2 << 30, "512Ki": 512 << 10} {
		if found, err := parseSize(text); err != nil || found != bytes {
			t.Errorf("%s: %d, %v", text, found, err)
		}
	}
	for _, text := range []string{"", "2", "Gi", "-1Gi", "0Mi", "2GB", "99999999999Gi"} {
		if _, err := parseSize(text); err == nil {
			t.Errorf("%q is no size", text)
		}
	}
}

func TestANodesMemoryIsItsGroups(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"version 1": {
			"memory.usage_in_bytes": "1073741824\n",
			"memory.stat":           "inactive_file 1\ntotal_inactive_file 268435456\ntotal_active_file 0\n",
		},
		"version 2": {"memory.current": "1073741824\n", "memory.stat": "inactive_file 134217728\nactive_file 134217728\n"},
	} {
		folder := t.TempDir()
		for file, text := range files {
			if err := os.WriteFile(filepath.Join(folder, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text := meminfo(2<<30, []string{filepath.Join(folder, "none"), folder})
		for _, line := range []string{"MemTotal:              2097152 kB", "MemAvailable:          1310720 kB"} {
			if !strings.Contains(text, line) {
				t.Errorf("%s: no %q in\n%s", name, line, text)
			}
		}
	}
}

func TestUnlikeNodes(t *testing.T) {
	read, rest, err := parseOptions([]string{"--nodes", "3", "--memory", "1Gi,512Mi", "--", "true"})
	if err != nil || !slices.Equal(read.memory, []int64{1 << 30, 512 << 20}) || !slices.Equal(rest, []string{"true"}) {
		t.Errorf("%v, %v, %v", read, rest, err)
	}
	if _, _, err := parseOptions([]string{"--memory", "1Gi,"}); err == nil {
		t.Error("a size is missing")
	}
}
