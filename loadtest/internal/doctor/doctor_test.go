package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/engine/docker"
)

// machine is a machine on which everything is well.
func machine() (checker, map[string]string, map[string]string) {
	programs := map[string]string{
		"go version": "go version go1.26.8 linux/amd64", "node --version": "v20.20.2", "npm --version": "10.9.0",
		"rustc --version": "rustc 1.96.0 (abc 2026-05-01)", "cargo --version": "cargo 1.96.0", "cc --version": "cc (Debian 12.2.0) 12.2.0\nCopyright",
		"make --version": "GNU Make 4.3\nBuilt for", "locale -a": "C\nC.utf8\nPOSIX\n",
		"redis-server --version": "Redis server v=7.0.15 sha=0",
		"docker --version":       "Docker version 20.10.24+dfsg1, build 297e128", "docker compose version": "Docker Compose version v2.40.3",
	}
	files := map[string]string{
		"/repo/go.work": "go 1.26", "/repo/contract/limits.json": "{}",
		"/sys/fs/cgroup/cgroup.controllers": "cpuset cpu memory\n", "/proc/self/smaps_rollup": "x",
		"/proc/loadavg": "0.10 0.20 0.30 1/100 1\n", "/proc/stat": "cpu  1 2 3 4 5 6 7 8 9 10\n",
		"/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
		"/proc/meminfo": "MemTotal: 9999999 kB\nMemAvailable:   8388608 kB\n",
	}
	c := checker{
		root: "/repo", tempDir: "/tmp",
		run: func(_ context.Context, program string, args ...string) (string, error) {
			output, there := programs[strings.Join(append([]string{program}, args...), " ")]
			if !there {
				return "", &exec.Error{Name: program, Err: exec.ErrNotFound}
			}
			return output, nil
		},
		read: func(path string) (string, error) {
			text, there := files[path]
			if !there {
				return "", fs.ErrNotExist
			}
			return text, nil
		},
		statDisk:  func(string) (int64, error) { return 100 * giB, nil },
		openFiles: func() (uint64, error) { return 1 << 20, nil },
		postgres:  func(context.Context) (string, string, error) { return "/usr/lib/postgresql/15/bin", "15.18", nil },
		embedded:  func() string { return "" },
		cpus:      func() ([]int, error) { return []int{0, 1, 2, 3}, nil },
		pin:       func([]int) error { return nil },
		user:      func(string) (string, error) { return "postgres", nil },
		survey: func(context.Context) (docker.Survey, error) {
			return docker.Survey{Server: docker.Server{Address: "unix:///var/run/docker.sock", Version: "20.10.24", API: "1.41"}, Local: true, CgroupVersion: "1"}, nil
		},
	}
	return c, programs, files
}

func byName(findings []Finding) map[string]Finding {
	named := map[string]Finding{}
	for _, f := range findings {
		named[f.Name] = f
	}
	return named
}

func TestAHealthyMachine(t *testing.T) {
	c, _, _ := machine()
	findings := c.check(t.Context())
	assert.True(t, Healthy(findings))
	for _, f := range findings {
		assert.Equal(t, OK, f.Status, "%s: %s", f.Name, f.Detail)
		assert.NotEmpty(t, f.Detail, f.Name)
		assert.Empty(t, f.Remedy, f.Name)
	}
	named := byName(findings)
	assert.Len(t, named, len(findings), "names are used once")
	assert.Equal(t, "1.26.8", named["go"].Detail)
	assert.Equal(t, "20.20.2", named["node"].Detail)
	assert.Contains(t, named["CPUs"].Detail, "the contender has 2")
}

func TestEachFaultIsFoundAndHasARemedy(t *testing.T) {
	for _, test := range []struct {
		name, finding string
		want          Status
		detail        string
		spoil         func(c *checker, programs, files map[string]string)
	}{
		{"no Go", "go", Missing, "not installed", func(_ *checker, p, _ map[string]string) { delete(p, "go version") }},
		{"an old Go", "go", Missing, "older than 1.26", func(_ *checker, p, _ map[string]string) { p["go version"] = "go version go1.21.3 linux/amd64" }},
		{"no npm", "npm", Missing, "not installed", func(_ *checker, p, _ map[string]string) { delete(p, "npm --version") }},
		{"an old Node", "node", Missing, "older than 18.0", func(_ *checker, p, _ map[string]string) { p["node --version"] = "v16.1.0" }},
		{"no Rust", "rustc", Missing, "not installed", func(_ *checker, p, _ map[string]string) { delete(p, "rustc --version") }},
		{"an old Rust", "rustc", Missing, "older", func(_ *checker, p, _ map[string]string) { p["rustc --version"] = "rustc 1.63.0" }},
		{"no C compiler", "C compiler", Missing, "not installed", func(_ *checker, p, _ map[string]string) { delete(p, "cc --version") }},
		{"a compiler that says something else", "C compiler", Warn, "not understood", func(_ *checker, p, _ map[string]string) { p["cc --version"] = "hello" }},
		{"a broken make", "make", Missing, "exit", func(c *checker, _, _ map[string]string) {
			run := c.run
			c.run = func(ctx context.Context, program string, args ...string) (string, error) {
				if program == "make" {
					return "cannot load a library", errors.New("exit status 127")
				}
				return run(ctx, program, args...)
			}
		}},
		{"no PostgreSQL at all", "postgresql", Missing, "none", func(c *checker, _, _ map[string]string) {
			c.postgres = func(context.Context) (string, string, error) { return "", "", errors.New("none here") }
		}},
		{"nobody to run it as", "user of postgresql", Missing, "no user", func(c *checker, _, _ map[string]string) {
			c.user = func(string) (string, error) { return "", errors.New("no user") }
		}},
		{"no locale", "locale C.UTF-8", Missing, "not among", func(_ *checker, p, _ map[string]string) { p["locale -a"] = "C\nPOSIX\n" }},
		{"no container engine", "container engine", Warn, "nobody answers", func(c *checker, _, _ map[string]string) {
			c.survey = func(context.Context) (docker.Survey, error) { return docker.Survey{}, errors.New("nobody answers") }
		}},
		{"an engine in a virtual machine", "container engine", Warn, "virtual", func(c *checker, _, _ map[string]string) {
			c.survey = func(context.Context) (docker.Survey, error) { return docker.Survey{CgroupVersion: "2"}, nil }
		}},
		{"an engine without cgroups", "container engine", Warn, "cgroup version", func(c *checker, _, _ map[string]string) {
			c.survey = func(context.Context) (docker.Survey, error) { return docker.Survey{Local: true}, nil }
		}},
		{"no base image", "base images", Warn, "golang:1.26-bookworm", func(c *checker, _, _ map[string]string) {
			c.survey = func(context.Context) (docker.Survey, error) {
				return docker.Survey{Local: true, CgroupVersion: "2", MissingImages: []string{"golang:1.26-bookworm"}}, nil
			}
		}},
		{"no compose", "compose", Warn, "neither", func(_ *checker, p, _ map[string]string) { delete(p, "docker compose version") }},
		{"no client for compose", "compose", Warn, "no client", func(_ *checker, p, _ map[string]string) { delete(p, "docker --version") }},
		{"no redis", "redis-server", Warn, "not installed", func(_ *checker, p, _ map[string]string) { delete(p, "redis-server --version") }},
		{"one CPU", "CPUs", Warn, "share", func(c *checker, _, _ map[string]string) {
			c.cpus = func() ([]int, error) { return []int{0}, nil }
		}},
		{"no pinning", "CPU affinity", Warn, "operation not permitted", func(c *checker, _, _ map[string]string) {
			c.pin = func([]int) error { return errors.New("operation not permitted") }
		}},
		{"no cgroups", "cgroups", Warn, "none", func(_ *checker, _, f map[string]string) { delete(f, "/sys/fs/cgroup/cgroup.controllers") }},
		{"an old kernel", "memory accounting", Warn, "smaps_rollup", func(_ *checker, _, f map[string]string) { delete(f, "/proc/self/smaps_rollup") }},
		{"a busy machine", "quiet", Warn, "3.50", func(_ *checker, _, f map[string]string) { f["/proc/loadavg"] = "3.50 1 1 1/1 1" }},
		{"a busy host", "quiet", Warn, "50.0 %", func(c *checker, _, f map[string]string) {
			read, readings := c.read, []string{"cpu 100 0 0 100 0 0 0 0 0 0", "cpu 150 0 0 100 0 0 0 50 0 0"}
			c.read = func(path string) (string, error) {
				if path == "/proc/stat" {
					text := readings[0]
					readings = readings[1:]
					return text, nil
				}
				return read(path)
			}
		}},
		{"a saving governor", "CPU frequency", Warn, "powersave", func(_ *checker, _, f map[string]string) {
			f["/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"] = "powersave\n"
		}},
		{"little memory", "memory", Warn, "2.0 GiB", func(_ *checker, _, f map[string]string) { f["/proc/meminfo"] = "MemAvailable: 2097152 kB\n" }},
		{"too little memory", "memory", Missing, "0.5 GiB", func(_ *checker, _, f map[string]string) { f["/proc/meminfo"] = "MemAvailable: 524288 kB\n" }},
		{"a full disk", "disk", Missing, "0.0 GiB", func(c *checker, _, _ map[string]string) {
			c.statDisk = func(string) (int64, error) { return 1, nil }
		}},
		{"few files", "open files", Warn, "1024", func(c *checker, _, _ map[string]string) {
			c.openFiles = func() (uint64, error) { return 1024, nil }
		}},
		{"not in the repository", "repository", Missing, "limits.json", func(_ *checker, _, f map[string]string) { delete(f, "/repo/contract/limits.json") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, programs, files := machine()
			test.spoil(&c, programs, files)
			findings := c.check(t.Context())
			got := byName(findings)[test.finding]
			assert.Equal(t, test.want, got.Status)
			assert.Contains(t, got.Detail, test.detail)
			assert.NotEmpty(t, got.Remedy)
			assert.Equal(t, test.want != Missing, Healthy(findings))
			for _, f := range findings {
				if f.Name != test.finding {
					assert.Equal(t, OK, f.Status, "%s: %s", f.Name, f.Detail)
				}
			}
		})
	}
}

func TestTheOlderComposeIsFound(t *testing.T) {
	c, programs, _ := machine()
	assert.Equal(t, "docker compose 2.40.3", byName(c.check(t.Context()))["compose"].Detail)
	delete(programs, "docker compose version")
	programs["docker-compose version"] = "docker-compose version 1.29.2, build unknown\ndocker-py version: 5.0.3\n"
	got := byName(c.check(t.Context()))["compose"]
	assert.Equal(t, OK, got.Status)
	assert.Equal(t, "docker-compose 1.29.2", got.Detail)
}

func TestWithoutAnEngineComposeIsNotLookedFor(t *testing.T) {
	c, _, _ := machine()
	c.survey = func(context.Context) (docker.Survey, error) { return docker.Survey{}, errors.New("nobody answers") }
	assert.NotContains(t, byName(c.check(t.Context())), "compose")
}

func TestThePackageOfBinariesStandsInForPostgreSQL(t *testing.T) {
	c, _, _ := machine()
	c.postgres = func(context.Context) (string, string, error) { return "", "", errors.New("none here") }
	c.embedded = func() string { return "@somebody/postgres@1" }
	got := byName(c.check(t.Context()))["postgresql"]
	assert.Equal(t, OK, got.Status)
	assert.Contains(t, got.Detail, "@somebody/postgres@1")
}

func TestThisMachine(t *testing.T) {
	root, err := filepath.Abs("../../..")
	require.NoError(t, err)
	findings := Check(t.Context(), root)
	named := byName(findings)
	// This test was built here, in this repository.
	assert.Equal(t, OK, named["go"].Status, named["go"].Detail)
	assert.Equal(t, OK, named["repository"].Status, named["repository"].Detail)
	text, err := json.Marshal(findings)
	require.NoError(t, err)
	assert.Contains(t, string(text), `"status":"ok"`)
}
