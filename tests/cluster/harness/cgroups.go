package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const cgroupRoot = "/sys/fs/cgroup"

// hierarchies lists the mounts of cgroups: one for each v1 controller, or the root alone with v2.
func hierarchies() []string {
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		return []string{cgroupRoot}
	}
	entries, _ := os.ReadDir(cgroupRoot)
	var found []string
	for _, entry := range entries {
		if entry.IsDir() {
			found = append(found, filepath.Join(cgroupRoot, entry.Name()))
		}
	}
	return found
}

// makeCgroups makes the node's root cgroup in every hierarchy: the kubelet wants all of them, systemd's too.
func makeCgroups(path string) error {
	for _, hierarchy := range hierarchies() {
		folder := hierarchy
		for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
			parent := folder
			folder = filepath.Join(folder, part)
			if err := os.MkdirAll(folder, 0o755); err != nil {
				return err
			}
			// A cpuset without processors and memory nodes takes no process.
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				inherited, err := os.ReadFile(filepath.Join(parent, file))
				if err != nil {
					continue
				}
				if err := os.WriteFile(filepath.Join(folder, file), inherited, 0o644); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// removeCgroups kills whatever still runs in the cgroup and removes it with all below it.
func removeCgroups(path string) error {
	var errs []error
	for _, hierarchy := range hierarchies() {
		errs = append(errs, removeTree(filepath.Join(hierarchy, path)))
	}
	return errors.Join(errs...)
}

func removeTree(root string) error {
	if _, err := os.Stat(root); err != nil {
		return nil
	}
	var folders []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			folders = append(folders, path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, folder := range slices.Backward(folders) {
		gone := waitFor(5*time.Second, func() bool {
			killAll(folder)
			err := os.Remove(folder)
			return err == nil || errors.Is(err, os.ErrNotExist)
		})
		if !gone {
			return fmt.Errorf("cgroup %s cannot be removed", folder)
		}
	}
	return nil
}

func killAll(folder string) {
	listed, err := os.ReadFile(filepath.Join(folder, "cgroup.procs"))
	if err != nil {
		return
	}
	for word := range strings.FieldsSeq(string(listed)) {
		if pid, err := strconv.Atoi(word); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
