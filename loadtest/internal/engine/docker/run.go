package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"lab/loadtest/internal/engine/host"
)

// Labels of everything that is made. What has labelRun lives as long as its run; what has labelCache or labelImage is
// kept for later ones.
const (
	labelRun   = "polyglot-lab.run"
	labelPid   = "polyglot-lab.pid"
	labelStart = "polyglot-lab.start-ticks"
	labelBoot  = "polyglot-lab.boot"
	labelHost  = "polyglot-lab.host"
	labelRole  = "polyglot-lab.role"
	labelCache = "polyglot-lab.cache"
	labelImage = "polyglot-lab.image"
	namePrefix = "polyglot-lab-"
)

// owner is the run that something belongs to, and the program that answers for it: its process id and start time, on one
// start of one machine.
type owner struct {
	run      string
	process  host.ProcessID
	boot     string
	hostname string
}

func newOwner() (owner, error) {
	process, err := host.ThisProcess()
	if err != nil {
		return owner{}, fmt.Errorf("who this program is: %w", err)
	}
	return owner{run: host.RandomHex(6), process: process, boot: host.BootID(), hostname: machineName()}, nil
}

// machineName tells machines, and process id namespaces of one machine, apart: an engine may serve several.
func machineName() string {
	name, _ := os.Hostname()
	namespace, _ := os.Readlink("/proc/self/ns/pid")
	return name + "/" + namespace
}

// labels mark what belongs to the run.
func (o owner) labels(role string) map[string]string {
	return map[string]string{
		labelRun: o.run, labelPid: strconv.Itoa(o.process.Pid), labelStart: strconv.FormatUint(o.process.StartTicks, 10),
		labelBoot: o.boot, labelHost: o.hostname, labelRole: role,
	}
}

// isLeft says whether labels are those of a run whose program is gone. Another machine's runs cannot be told and are
// left alone.
func isLeft(labels map[string]string) bool {
	if labels[labelRun] == "" || labels[labelHost] != machineName() {
		return false
	}
	if labels[labelBoot] != host.BootID() {
		return true
	}
	pid, err := strconv.Atoi(labels[labelPid])
	if err != nil || pid <= 0 {
		return false
	}
	ticks, err := strconv.ParseUint(labels[labelStart], 10, 64)
	if err != nil {
		return false
	}
	return !host.ProcessID{Pid: pid, StartTicks: ticks}.Lives()
}

// Swept counts what a sweep removed.
type Swept struct{ Containers, Networks, Volumes int }

// sweep removes what runs left for which pick says yes: containers first, since they hold on to the rest.
func (c *connection) sweep(ctx context.Context, pick func(labels map[string]string) bool) (Swept, error) {
	var swept Swept
	var errs []error
	ours := make(client.Filters).Add("label", labelRun)
	count := func(n *int, err error) {
		switch {
		case err == nil:
			*n++
		case !errdefs.IsNotFound(err):
			errs = append(errs, explain(err))
		}
	}
	containers, err := c.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: ours})
	if err != nil {
		return swept, fmt.Errorf("look for what earlier runs left: %w", explain(err))
	}
	for _, item := range containers.Items {
		if pick(item.Labels) {
			count(&swept.Containers, c.removeContainer(ctx, item.ID))
		}
	}
	networks, err := c.api.NetworkList(ctx, client.NetworkListOptions{Filters: ours})
	if err != nil {
		return swept, fmt.Errorf("look for what earlier runs left: %w", explain(err))
	}
	for _, item := range networks.Items {
		if pick(item.Labels) {
			_, err := c.api.NetworkRemove(ctx, item.ID, client.NetworkRemoveOptions{})
			count(&swept.Networks, err)
		}
	}
	volumes, err := c.api.VolumeList(ctx, client.VolumeListOptions{Filters: ours})
	if err != nil {
		return swept, fmt.Errorf("look for what earlier runs left: %w", explain(err))
	}
	for _, item := range volumes.Items {
		if pick(item.Labels) {
			_, err := c.api.VolumeRemove(ctx, item.Name, client.VolumeRemoveOptions{Force: true})
			count(&swept.Volumes, err)
		}
	}
	return swept, errors.Join(errs...)
}

// removeContainer removes a container, whatever it does, and the volumes that have no name. That it is being removed
// already is as good.
func (c *connection) removeContainer(ctx context.Context, id string) error {
	_, err := c.api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
		return nil
	}
	return err
}
