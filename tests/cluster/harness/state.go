package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// place is where things are: the Go module and the folder that a cluster keeps everything in.
type place struct {
	repository string
	state      string
}

// state is what `up` leaves for the other commands, in state.json.
type state struct {
	Dir        string    `json:"dir"`
	Slot       int       `json:"slot"`
	Port       int       `json:"port"`
	Folders    []string  `json:"folders"`
	Servers    []process `json:"servers"`
	Nodes      []node    `json:"nodes"`
	ReadyAfter float64   `json:"readyAfterSeconds"`
}

// node is one kubelet with its namespaces. Its process is the namespaces' pid 1.
type node struct {
	Name    string  `json:"name"`
	Index   int     `json:"index"`
	Address string  `json:"address"`
	Memory  int64   `json:"memoryBytes"` // 0: the whole machine's.
	Init    process `json:"init"`
}

// moduleDir is tests/cluster, which the wrapper script names.
func moduleDir() (string, error) {
	if dir := os.Getenv("LIME_CLUSTER_MODULE"); dir != "" {
		return dir, nil
	}
	return "", errors.New("start this by tests/cluster/cluster, which sets LIME_CLUSTER_MODULE")
}

func locate() (place, error) {
	module, err := moduleDir()
	if err != nil {
		return place{}, err
	}
	repository := filepath.Dir(filepath.Dir(module))
	dir := os.Getenv("LIME_CLUSTER_DIR")
	if dir == "" {
		dir = filepath.Join(repository, "target", "cluster")
	}
	dir, err = filepath.Abs(dir)
	return place{repository: repository, state: dir}, err
}

func (s *state) path(parts ...string) string {
	return filepath.Join(append([]string{s.Dir}, parts...)...)
}

func (s *state) kubeconfig() string { return s.path("kubeconfig") }
func (s *state) bin() binaries      { return binaries{s.Folders} }

func (s *state) save() error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	partial := s.path("state.json.tmp")
	if err := os.WriteFile(partial, text, 0o600); err != nil {
		return err
	}
	return os.Rename(partial, s.path("state.json"))
}

// load returns nil when there is no cluster in that folder.
func load(at place) (*state, error) {
	text, err := os.ReadFile(filepath.Join(at.state, "state.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	read := &state{}
	if err := json.Unmarshal(text, read); err != nil {
		return nil, fmt.Errorf("%s: %w (remove it if no cluster runs)", filepath.Join(at.state, "state.json"), err)
	}
	return read, nil
}

func withState(at place, act func(*state) error) error {
	found, err := load(at)
	if err != nil {
		return err
	}
	if found == nil {
		return errors.New("no cluster runs here: start one by tests/cluster/cluster up")
	}
	return errors.Join(act(found), found.save())
}
