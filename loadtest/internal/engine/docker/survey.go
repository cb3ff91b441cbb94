package docker

import (
	"context"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/moby/client"

	"lab/loadtest/internal/engine/host"
)

// Survey is what a container engine offers the lab.
type Survey struct {
	Server
	// Local says that containers are processes of this machine, so that the kernel's accounts of them can be read.
	Local bool
	// CgroupVersion is "1" or "2".
	CgroupVersion string
	// MissingImages are those base images that would have to be pulled.
	MissingImages []string
}

// Look asks the engine that answers. root is the repository's root, whose Dockerfiles name the base images.
func Look(ctx context.Context, root string) (Survey, error) {
	c, err := connect(ctx)
	if err != nil {
		return Survey{}, err
	}
	defer c.api.Close()
	info, err := c.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return Survey{}, explain(err)
	}
	s := Survey{Server: c.server, Local: info.Info.KernelVersion == host.KernelRelease(), CgroupVersion: info.Info.CgroupVersion}
	wanted := []string{postgresImageName()}
	files, err := filepath.Glob(filepath.Join(root, "*", "Dockerfile"))
	if err != nil {
		return Survey{}, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return Survey{}, err
		}
		_, bases := buildArguments(string(text), nil)
		wanted = append(wanted, bases...)
	}
	slices.Sort(wanted)
	for _, reference := range slices.Compact(wanted) {
		_, here, err := c.inspect(ctx, reference)
		if err != nil {
			return Survey{}, err
		}
		if !here {
			s.MissingImages = append(s.MissingImages, reference)
		}
	}
	return s, nil
}
