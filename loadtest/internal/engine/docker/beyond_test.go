package docker

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"lab/loadtest/internal/engine/host"
)

// assertNoWayOut tries it from inside: a program in the contender's network asks a server beyond this machine.
func assertNoWayOut(t *testing.T, e *Engine, c *contenderService) {
	t.Helper()
	url := beyond(t)
	job, err := json.Marshal(map[string]any{
		"url": url, "body": "{}", "rps": 2, "duration_ns": time.Second, "arrival": "constant", "seed": 1, "max_in_flight": 4, "timeout_ns": time.Second,
	})
	require.NoError(t, err)
	type outcome struct {
		Sent     int `json:"sent"`
		OK       int `json:"ok"`
		FailedBy struct {
			Timeout int `json:"timeout"`
		} `json:"failed_by"`
	}
	try := func() (o outcome) {
		result, err := e.Agent(t.Context(), c, job)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(result.Stdout, &o))
		return o
	}
	got := try()
	assert.Positive(t, got.Sent)
	assert.Zero(t, got.OK)
	assert.Equal(t, got.Sent, got.FailedBy.Timeout, "its packets go and nobody knows the way back")
	// It is the masquerading that is not there: with it, as in a network of the engine's own making, it would get one.
	inspected, err := e.c.api.ContainerInspect(t.Context(), c.id, client.ContainerInspectOptions{})
	require.NoError(t, err)
	address := inspected.Container.NetworkSettings.Networks[e.network.name].IPAddress.String()
	rule := []string{"POSTROUTING", "-s", address, "-d", beyondThere, "-j", "MASQUERADE"}
	command(t, "iptables", append([]string{"-w", "-t", "nat", "-A"}, rule...)...)
	defer command(t, "iptables", append([]string{"-w", "-t", "nat", "-D"}, rule...)...)
	assert.Positive(t, try().OK)
}

// The two ends of a cable between this machine and one that the test plays: a network namespace of it. Both addresses are
// of a range that is nobody's (RFC 5737).
const beyondHere, beyondThere = "198.51.100.1", "198.51.100.2"

// beyond is a server that stands to this machine as any other does: reached by forwarding, and knowing the way back to
// this machine's address only. Nothing leaves this machine.
func beyond(t *testing.T) (url string) {
	t.Helper()
	for _, program := range []string{"ip", "iptables"} {
		if _, err := exec.LookPath(program); err != nil || os.Geteuid() != 0 {
			t.Skip("playing another machine needs root, ip and iptables")
		}
	}
	name := "lab" + host.RandomHex(4)
	if output, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Skipf("no network namespace can be made here: %s", output)
	}
	t.Cleanup(func() { command(t, "ip", "netns", "delete", name) }) // and with it the cable
	command(t, "ip", "link", "add", name, "type", "veth", "peer", "name", "there", "netns", name)
	command(t, "ip", "address", "add", beyondHere+"/30", "dev", name)
	command(t, "ip", "link", "set", name, "up")
	command(t, "ip", "-n", name, "address", "add", beyondThere+"/30", "dev", "there")
	command(t, "ip", "-n", name, "link", "set", "there", "up")
	listening := make(chan error)
	var listener net.Listener
	go func() {
		runtime.LockOSThread() // and never free: the thread ends with its namespace
		file, err := os.Open(filepath.Join("/run/netns", name))
		if err == nil {
			defer file.Close()
			err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			listener, err = net.Listen("tcp", net.JoinHostPort(beyondThere, "0"))
		}
		listening <- err
	}()
	require.NoError(t, <-listening)
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"data":{}}`)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	url = "http://" + listener.Addr().String() + "/graphql"
	response, err := http.Get(url)
	require.NoError(t, err, "this machine reaches it")
	require.NoError(t, response.Body.Close())
	return url
}

func command(t *testing.T, program string, arguments ...string) {
	t.Helper()
	output, err := exec.Command(program, arguments...).CombinedOutput()
	require.NoError(t, err, "%s %s: %s", program, strings.Join(arguments, " "), output)
}
