package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// exitCode is a child's exit status, handed on as ours.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

// process is a server that was started here. The start time tells it from a later process with the same number.
type process struct {
	Name  string `json:"name"`
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

// spawn starts a server in a session of its own, its output in a log file.
func spawn(name, log string, argv []string) (process, error) {
	if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
		return process{}, err
	}
	output, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return process{}, err
	}
	defer output.Close()
	command := exec.Command(argv[0], argv[1:]...)
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return process{}, fmt.Errorf("starting %s: %w", name, err)
	}
	// Reaped here, so that one that dies while we wait for it does not look alive.
	go func() { _ = command.Wait() }()
	started, err := startTime(command.Process.Pid)
	if err != nil {
		return process{}, fmt.Errorf("%s died at once: see %s", name, log)
	}
	return process{Name: name, PID: command.Process.Pid, Start: started}, nil
}

// startTime reads field 22 of /proc/PID/stat: clock ticks from boot to the start of the process.
func startTime(pid int) (uint64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything; the fields are counted from behind it.
	_, rest, found := cutLast(string(stat), ")")
	fields := strings.Fields(rest)
	if !found || len(fields) < 20 || fields[0] == "Z" {
		return 0, errors.New("no such process")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return s, "", false
}

func (p process) alive() bool {
	started, err := startTime(p.PID)
	return err == nil && started == p.Start
}

// residentKiB is the process's own memory, 0 when it is gone.
func (p process) residentKiB() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if value, found := strings.CutPrefix(line, "VmRSS:"); found {
			kib, _ := strconv.Atoi(strings.Fields(value)[0])
			return kib
		}
	}
	return 0
}

// stop ends the process's session politely, and after the patience by force.
func (p process) stop(patience time.Duration) {
	if !p.alive() {
		return
	}
	_ = syscall.Kill(-p.PID, syscall.SIGTERM)
	if !waitFor(patience, func() bool { return !p.alive() }) {
		_ = syscall.Kill(-p.PID, syscall.SIGKILL)
		waitFor(5*time.Second, func() bool { return !p.alive() })
	}
}

func waitFor(patience time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if done() {
			return true
		}
	}
	return done()
}

// output runs a command to its end; its error carries what the command said.
func output(argv ...string) (string, error) {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// kill ends the process and its session without a word.
func (p process) kill() {
	if p.alive() {
		_ = syscall.Kill(-p.PID, syscall.SIGKILL)
		waitFor(5*time.Second, func() bool { return !p.alive() })
	}
}
