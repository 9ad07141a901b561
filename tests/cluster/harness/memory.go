package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Where a node keeps what /proc/meminfo says in it, once its folders are mounted.
const (
	meminfoFile = "/run/lime-meminfo"
	baseSpec    = "/var/lib/lime-node/base-spec.json"
)

// How often it is written: sooner than the worker that looks most often, twice a second.
const meminfoEvery = 250 * time.Millisecond

// parseSize reads a number of bytes as Kubernetes writes it: 1536Mi, 2Gi.
func parseSize(text string) (int64, error) {
	for suffix, shift := range map[string]int{"Ki": 10, "Mi": 20, "Gi": 30} {
		digits, found := strings.CutSuffix(text, suffix)
		if !found {
			continue
		}
		number, err := strconv.ParseInt(digits, 10, 32)
		if err != nil || number <= 0 {
			break
		}
		return number << shift, nil
	}
	return 0, fmt.Errorf("%q is no size: write it as 1536Mi or 2Gi", text)
}

// layMemory makes the node a machine of so much memory: what its kubelet and its pods read in /proc/meminfo is what the
// node's own cgroup has left. The kubelet holds its pods to it by a real limit, as it does on every node.
func layMemory(bytes int64, cgroup string) error {
	groups := []string{filepath.Join(cgroupRoot, "memory", cgroup), filepath.Join(cgroupRoot, cgroup)}
	write := func() error {
		file, err := os.OpenFile(meminfoFile, os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer file.Close()
		// One write over what was there, always of the same length: whoever reads meanwhile sees whole lines.
		_, err = file.WriteAt([]byte(meminfo(bytes, groups)), 0)
		return err
	}
	if err := write(); err != nil {
		return err
	}
	go func() {
		for range time.Tick(meminfoEvery) {
			if err := write(); err != nil {
				fmt.Fprintln(os.Stderr, "error: writing", meminfoFile+":", err)
			}
		}
	}()
	return bind(meminfoFile, "/proc/meminfo")
}

// meminfo is the file for a node of so many bytes: what the group holds, less the files that the kernel would drop, is used.
func meminfo(bytes int64, groups []string) string {
	var used, cache int64
	for _, group := range groups {
		for _, file := range []string{"memory.usage_in_bytes", "memory.current"} {
			if text, err := os.ReadFile(filepath.Join(group, file)); err == nil {
				used, _ = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			}
		}
		text, err := os.ReadFile(filepath.Join(group, "memory.stat"))
		if err != nil {
			continue
		}
		figures := map[string]int64{}
		for line := range strings.Lines(string(text)) {
			if name, value, found := strings.Cut(strings.TrimSpace(line), " "); found {
				figures[name], _ = strconv.ParseInt(value, 10, 64)
			}
		}
		// Version 1 has figures of the group alone and, as total_, of all below it.
		prefix := ""
		if _, found := figures["total_inactive_file"]; found {
			prefix = "total_"
		}
		cache = figures[prefix+"inactive_file"] + figures[prefix+"active_file"]
	}
	free := max(bytes-used, 0)
	available := min(max(bytes-used+cache, 0), bytes)
	var text strings.Builder
	for _, line := range []struct {
		name  string
		bytes int64
	}{
		{"MemTotal", bytes}, {"MemFree", free}, {"MemAvailable", available}, {"Buffers", 0}, {"Cached", cache},
		{"SwapCached", 0}, {"SwapTotal", 0}, {"SwapFree", 0},
	} {
		fmt.Fprintf(&text, "%-16s%14d kB\n", line.name+":", line.bytes>>10)
	}
	return text.String()
}

// writeBaseSpec makes every container of the node see the node's memory: containerd's own default with one mount more.
func (s *state) writeBaseSpec(path string) error {
	text, err := output(s.bin().path("ctr"), "oci", "spec")
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return fmt.Errorf("ctr oci spec: %w", err)
	}
	mounts, _ := spec["mounts"].([]any)
	spec["mounts"] = append(mounts, map[string]any{
		"destination": "/proc/meminfo", "type": "bind", "source": meminfoFile, "options": []string{"bind", "ro"},
	})
	made, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, made, 0o644)
}
