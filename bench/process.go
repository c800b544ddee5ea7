package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ticks is how many clock ticks of /proc/PID/stat make a second: USER_HZ.
const ticks = 100

// process is a process that the bench started.
type process struct {
	*exec.Cmd

	cancel context.CancelFunc
}

// start starts a program that ends with ctx at the latest.
func start(ctx context.Context, cmd func(context.Context) *exec.Cmd) (*process, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &process{cmd(ctx), cancel}
	p.Cancel = func() error { return p.Process.Signal(syscall.SIGTERM) }
	p.WaitDelay = 10 * time.Second
	p.SysProcAttr = attributes()
	if err := p.Start(); err != nil {
		cancel()
		return nil, err
	}
	return p, nil
}

// stop ends the process and waits for its exit.
func (p *process) stop() {
	p.cancel()
	_ = p.Wait() // its exit code does not matter
}

// cpuTime returns the CPU time, user and system, that processes and their
// descendants have used so far.
func cpuTime(pids ...int) (time.Duration, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	all := map[int]stat{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		s, err := parseStat(text)
		if err != nil {
			return 0, err
		}
		all[s.pid] = s
	}
	for _, pid := range pids {
		if _, ok := all[pid]; !ok {
			return 0, fmt.Errorf("process %d has ended", pid)
		}
	}
	var sum time.Duration
	for pid, s := range all {
		for pid > 0 && !slices.Contains(pids, pid) {
			pid = all[pid].parent
		}
		if pid > 0 {
			sum += s.cpu
		}
	}
	return sum, nil
}

// stat is what /proc/PID/stat says of a process.
type stat struct {
	pid, parent int
	cpu         time.Duration // its own, and that of its children that have ended
}

// parseStat reads /proc/PID/stat, proc(5).
func parseStat(text []byte) (stat, error) {
	// The second field is the program's name in parentheses, of any characters.
	id, _, _ := bytes.Cut(text, []byte(" "))
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 15 {
		return stat{}, errors.New("/proc/PID/stat is too short")
	}
	var numbers []int
	for _, field := range append([]string{string(id), fields[1]}, fields[11:15]...) {
		n, err := strconv.Atoi(field)
		if err != nil {
			return stat{}, fmt.Errorf("/proc/PID/stat: %w", err)
		}
		numbers = append(numbers, n)
	}
	used := numbers[2] + numbers[3] + numbers[4] + numbers[5]
	return stat{pid: numbers[0], parent: numbers[1], cpu: time.Duration(used) * time.Second / ticks}, nil
}

// resident matches the line of /proc/PID/status with the resident memory.
var resident = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)

// residentMemory returns the resident memory of a process in bytes.
func residentMemory(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parseResident(text)
}

// parseResident reads /proc/PID/status.
func parseResident(status []byte) (int, error) {
	match := resident.FindSubmatch(status)
	if match == nil {
		return 0, errors.New("/proc/PID/status has no resident memory")
	}
	kilobytes, err := strconv.Atoi(string(match[1]))
	return kilobytes << 10, err
}

// runProgram runs a program in a directory and returns its output. The program
// has its own process group, so that its children end with it.
func runProgram(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", cmd, err, out)
	}
	return string(out), nil
}
