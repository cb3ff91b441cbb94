package stack_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contract"
)

var servers = []string{"go", "node", "rust"}

// TestStack brings the stack up as make up does, beside one that may be running, and takes it down again.
func TestStack(t *testing.T) {
	needEngine(t)
	c, err := contract.Load(filepath.Join(root(t), "contract"))
	require.NoError(t, err)
	project := fmt.Sprintf("polyglot-lab-test-%d", os.Getpid())
	environment := []string{
		"STACK_ENV=" + filepath.Join(t.TempDir(), "env"), "COMPOSE_PROJECT_NAME=" + project,
		"GO_PORT=0", "NODE_PORT=0", "RUST_PORT=0", "UPSTREAM_LATENCY=1ms",
	}
	stack := func(args ...string) result { return run(t, environment, "scripts/stack", args...) }
	left := func() string {
		filter := "label=com.docker.compose.project=" + project
		return docker(t, "ps", "--all", "--quiet", "--filter", filter) +
			docker(t, "volume", "ls", "--quiet", "--filter", filter) +
			docker(t, "network", "ls", "--quiet", "--filter", filter)
	}
	t.Cleanup(func() { stack("down") })

	up := stack("up", "--size", "small")
	require.Zero(t, up.code, up.stderr)
	urls := make(map[string]string)
	for _, line := range strings.Split(strings.TrimSpace(up.stdout), "\n") {
		name, url, _ := strings.Cut(line, " ")
		urls[name] = url
	}
	require.Len(t, urls, len(servers), up.stdout)

	for _, name := range servers {
		t.Run(name, func(t *testing.T) {
			url := urls[name]
			require.True(t, strings.HasPrefix(url, "http://127.0.0.1:"), "reachable from loopback only: %q", url)
			// From the replica, by the HTTP service, and from the primary without a change to what the next server answers.
			for _, operation := range []string{"q2", "quote", "add_review_item_not_found"} {
				op, err := c.Operation(operation)
				require.NoError(t, err)
				assert.JSONEq(t, string(op.Expected), ask(t, url, op), operation)
			}
			page, contentType := get(t, url, "text/html")
			assert.Contains(t, contentType, "text/html")
			assert.Contains(t, page, `src="/graphiql/graphiql.min.js"`)
			script, contentType := get(t, strings.TrimSuffix(url, "/graphql")+"/graphiql/graphiql.min.js", "*/*")
			assert.Contains(t, contentType, "javascript")
			assert.Greater(t, len(script), 100_000)
		})
	}

	t.Run("nothing but the servers can be reached, and they from loopback only", func(t *testing.T) {
		for _, id := range strings.Fields(docker(t, "ps", "--quiet", "--filter", "label=com.docker.compose.project="+project)) {
			var container []struct {
				Name            string
				Config          struct{ User string }
				HostConfig      struct{ ReadonlyRootfs, Privileged bool }
				NetworkSettings struct {
					Ports map[string][]struct{ HostIP string }
				}
			}
			require.NoError(t, json.Unmarshal([]byte(docker(t, "inspect", id)), &container))
			for port, bindings := range container[0].NetworkSettings.Ports {
				for _, binding := range bindings {
					assert.Equal(t, "127.0.0.1", binding.HostIP, "%s %s", container[0].Name, port)
				}
			}
			assert.True(t, container[0].HostConfig.ReadonlyRootfs, container[0].Name)
			assert.NotContains(t, []string{"", "0", "root"}, container[0].Config.User, container[0].Name)
		}
	})

	t.Run("again is no harm, another size is refused", func(t *testing.T) {
		other := stack("up", "--size", "standard")
		assert.Equal(t, 2, other.code)
		assert.Contains(t, other.stderr, "small")
	})

	t.Run("what is shipped has no package settings in it", func(t *testing.T) {
		for _, name := range append([]string{"loadtest"}, servers...) {
			looksClean(t, "polyglot-lab/"+name+":compose")
		}
	})

	t.Run("servers end on SIGTERM with what is under way finished", func(t *testing.T) {
		stopped := stack(append([]string{"compose", "stop"}, servers...)...)
		require.Zero(t, stopped.code, stopped.stderr)
		for _, name := range servers {
			id := strings.TrimSpace(stack("compose", "ps", "--quiet", name).stdout)
			if id == "" { // docker compose lists what runs unless asked for more
				id = strings.TrimSpace(stack("compose", "ps", "--all", "--quiet", name).stdout)
			}
			assert.Equal(t, "0", docker(t, "inspect", "--format", "{{.State.ExitCode}}", id), name)
		}
	})

	down := stack("down")
	require.Zero(t, down.code, down.stderr)
	assert.Empty(t, left())
	assert.NoFileExists(t, strings.TrimPrefix(environment[0], "STACK_ENV="))
	entries, err := os.ReadDir(filepath.Join(root(t), ".lab-build"))
	require.NoError(t, err)
	assert.Len(t, entries, 1, "the settings are there for the time of a build only")
}

// ask sends an operation and returns the answer with its errors reduced as expected answers have them.
func ask(t *testing.T, url string, op *contract.Operation) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"query": op.Query, "variables": op.Variables})
	require.NoError(t, err)
	response, err := http.Post(url, "application/json", bytes.NewReader(body))
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, string(text))
	return string(text)
}

func get(t *testing.T, url, accept string) (body, contentType string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(t, err)
	request.Header.Set("Accept", accept)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, string(text))
	return string(text), response.Header.Get("Content-Type")
}

// looksClean searches an image's history and every file of it for what a build got from this machine.
func looksClean(t *testing.T, image string) {
	t.Helper()
	settings := t.TempDir()
	made := run(t, nil, "scripts/build-settings", settings)
	require.Zero(t, made.code, made.stderr)
	// The folder's own description went into every build, with settings or without.
	description, err := os.ReadFile(filepath.Join(root(t), ".lab-build", "README.md"))
	require.NoError(t, err)
	secrets := map[string][]byte{"README.md": description}
	files, err := os.ReadDir(settings)
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(settings, file.Name()))
		require.NoError(t, err)
		secrets[file.Name()] = text
	}

	history := docker(t, "history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
	configuration := docker(t, "image", "inspect", image)
	for _, text := range []string{history, configuration} {
		assert.NotContains(t, text, "lab-build", image)
		for _, name := range []string{"_proxy=", "_PROXY=", "GOPROXY=", "NPM_CONFIG", "CARGO_REG"} {
			assert.NotContains(t, text, name, image)
		}
	}

	id := docker(t, "create", "--entrypoint", "/none", image)
	defer docker(t, "rm", "--volumes", id)
	export := exec.Command("docker", "export", id)
	stream, err := export.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, export.Start())
	seen := 0
	for archive := tar.NewReader(stream); ; seen++ {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if !assert.NotContains(t, header.Name, "lab-build", image) || header.Typeflag != tar.TypeReg {
			continue
		}
		text, err := io.ReadAll(archive)
		require.NoError(t, err)
		for name, secret := range secrets {
			if bytes.Contains(text, secret) {
				assert.Fail(t, "package settings are in what is shipped", "%s has %s in %s", image, name, header.Name)
			}
		}
	}
	require.NoError(t, export.Wait())
	assert.Greater(t, seen, 100, "%s has files", image)
}
