package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/host"
)

const (
	// dockerfileName is the Dockerfile's place in every context: .dockerignore keeps it out of what is copied.
	dockerfileName = ".dockerfile"
	// settingsFolder has the package settings of a closed network for builder stages; they are no input of what is built.
	settingsFolder = ".lab-build"
	// toolFolder is the folder of this program, whose image is the load generator and the stub.
	toolFolder = "loadtest"
)

// Images that are used as they are, and the settings in the environment that replace them.
const (
	postgresImage = "postgres:15-bookworm"
	redisImage    = "redis:7-bookworm"
)

// image is one that can be started.
type image struct {
	// reference is its name with its tag.
	reference string
	id        string
	bytes     int64
	// entrypoint is what it starts with.
	entrypoint []string
}

// MissingImageError says that an image is neither here nor to be had.
type MissingImageError struct {
	Image string
	Cause error
}

func (e *MissingImageError) Error() string {
	return fmt.Sprintf("image %s is not in the container engine and cannot be pulled: %v; where no container registry can be reached, scripts/base-images makes a stand-in (or use --engine native)",
		e.Image, e.Cause)
}

func (e *MissingImageError) Unwrap() error { return e.Cause }

// setting is a variable of the environment or its default.
func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func postgresImageName() string { return setting("POSTGRES_IMAGE", postgresImage) }
func redisImageName() string    { return setting("REDIS_IMAGE", redisImage) }

// inspect looks an image up in the engine.
func (c *connection) inspect(ctx context.Context, reference string) (image, bool, error) {
	found, err := c.api.ImageInspect(ctx, reference)
	if errdefs.IsNotFound(err) {
		return image{}, false, nil
	}
	if err != nil {
		return image{}, false, fmt.Errorf("look for image %s: %w", reference, explain(err))
	}
	i := image{reference: reference, id: found.ID, bytes: found.Size}
	if found.Config != nil {
		i.entrypoint = found.Config.Entrypoint
	}
	return i, true, nil
}

// have returns an image, pulled where it is not here.
func (c *connection) have(ctx context.Context, reference string, log func(string)) (image, error) {
	i, here, err := c.inspect(ctx, reference)
	if err != nil || here {
		return i, err
	}
	log("pulling image " + reference)
	if err := c.pull(ctx, reference, log); err != nil {
		if ctx.Err() != nil {
			return image{}, ctx.Err()
		}
		if err := explain(err); errors.Is(err, engine.ErrGone) || strings.Contains(err.Error(), "disk is full") {
			return image{}, fmt.Errorf("pull image %s: %w", reference, err)
		}
		return image{}, &MissingImageError{reference, err}
	}
	i, here, err = c.inspect(ctx, reference)
	if err == nil && !here {
		err = &MissingImageError{reference, errors.New("it is not there after it was pulled")}
	}
	return i, err
}

func (c *connection) pull(ctx context.Context, reference string, log func(string)) error {
	stream, err := c.api.ImagePull(ctx, reference, client.ImagePullOptions{})
	if err != nil {
		return err
	}
	defer stream.Close()
	for message, err := range stream.JSONMessages(ctx) {
		switch {
		case err != nil:
			return err
		case message.Error != nil:
			return errors.New(message.Error.Message)
		case message.Progress == nil && message.ID == "" && message.Status != "":
			log(message.Status)
		}
	}
	return nil
}

// baseImage is an image that a Dockerfile builds on: an argument with a default whose name ends in _IMAGE.
var baseImage = regexp.MustCompile(`(?m)^ARG[ \t]+([A-Z][A-Z0-9_]*_IMAGE)=(\S+)[ \t]*$`)

// buildArguments returns the arguments of a build: the base images, as the environment or the Dockerfile names them, and
// the arm's own.
func buildArguments(dockerfile string, own map[string]string) (arguments map[string]string, bases []string) {
	arguments = maps.Clone(own)
	if arguments == nil {
		arguments = map[string]string{}
	}
	for _, match := range baseImage.FindAllStringSubmatch(dockerfile, -1) {
		name, otherwise := match[1], strings.Trim(match[2], `"'`)
		arguments[name] = setting(name, otherwise)
		bases = append(bases, arguments[name])
	}
	return arguments, bases
}

// builder makes images once per run.
type builder struct {
	e    *Engine
	mu   sync.Mutex
	done map[string]image
	// sizes are those of the contenders' images by their names.
	sizes map[string]int64
}

// of returns the image of a folder of the repository, built where no earlier one has the same inputs.
func (b *builder) of(ctx context.Context, folder string, own map[string]string) (image, error) {
	return b.ofTree(ctx, b.e.options.Root, folder, own)
}

// ofTree is of for a repository at another root, as a worktree of it is.
func (b *builder) ofTree(ctx context.Context, root, folder string, own map[string]string) (image, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := fmt.Sprint(root, folder, own)
	if i, known := b.done[key]; known {
		return i, nil
	}
	i, err := b.build(ctx, root, folder, own)
	if err != nil {
		return image{}, fmt.Errorf("image of %s: %w", folder, err)
	}
	b.done[key] = i
	if folder != toolFolder {
		b.sizes[imageName(folder)] = i.bytes
	}
	return i, nil
}

// imageName is a folder's name without what all servers' end in.
func imageName(folder string) string { return strings.TrimSuffix(folder, "-server") }

func (b *builder) build(ctx context.Context, root, folder string, own map[string]string) (image, error) {
	e := b.e
	dockerfile, err := os.ReadFile(filepath.Join(root, folder, "Dockerfile"))
	if err != nil {
		return image{}, err
	}
	files, err := contextFiles(root, folder)
	if err != nil {
		return image{}, err
	}
	arguments, bases := buildArguments(string(dockerfile), own)
	inputs := sha256.New()
	fmt.Fprintf(inputs, "%s\n%q\n", dockerfile, arguments)
	for _, reference := range bases {
		base, err := e.c.have(ctx, reference, e.log)
		if err != nil {
			return image{}, err
		}
		fmt.Fprintf(inputs, "base %s %s\n", reference, base.id)
	}
	for _, f := range files {
		fmt.Fprintf(inputs, "file %q %o %x\n", f.name, f.mode, sha256.Sum256(f.content))
	}
	name := imageName(folder)
	reference := "polyglot-lab/" + name + ":" + hex.EncodeToString(inputs.Sum(nil))[:16]
	if i, here, err := e.c.inspect(ctx, reference); err != nil {
		return image{}, err
	} else if here {
		switch err := e.hold(ctx, name, i); {
		case err == nil:
			return i, nil
		case !errdefs.IsNotFound(err):
			return image{}, err
		}
		// Another run has just removed it.
	}
	settings, err := packageSettings(ctx, e.options.Root, e.log)
	if err != nil {
		return image{}, err
	}
	files = append(files, settings...)
	files = append(files, file{name: dockerfileName, mode: 0o644, content: dockerfile})
	began := time.Now()
	e.log(fmt.Sprintf("building image %s (once for these sources)", reference))
	stages, err := e.c.buildImage(ctx, reference, name, files, arguments, e.log)
	if err != nil {
		return image{}, err
	}
	i, here, err := e.c.inspect(ctx, reference)
	if err == nil && !here {
		err = fmt.Errorf("the builder said nothing of an error, but there is no %s", reference)
	}
	if err != nil {
		return image{}, err
	}
	e.log(fmt.Sprintf("built image %s in %s", reference, time.Since(began).Round(time.Second)))
	if err := e.hold(ctx, name, i); err != nil {
		return image{}, err
	}
	e.c.removeOlder(ctx, name, i, e.log)
	e.replaceStages(ctx, name, stages)
	return i, nil
}

// buildImage has the engine build an image. What it says goes to the log; an error has its last words. It returns the
// stages before the last one, which stay as images without a name.
func (c *connection) buildImage(ctx context.Context, reference, name string, files []file, arguments map[string]string, log func(string)) (stages []string, err error) {
	values := map[string]*string{}
	for argument, value := range arguments {
		values[argument] = &value
	}
	read, write := io.Pipe()
	go func() { write.CloseWithError(writeTar(write, files)) }()
	defer read.Close()
	result, err := c.api.ImageBuild(ctx, read, client.ImageBuildOptions{
		Tags: []string{reference}, Dockerfile: dockerfileName, BuildArgs: values,
		Labels: map[string]string{labelImage: name}, Remove: true, ForceRemove: true,
	})
	if err != nil {
		return nil, fmt.Errorf("build: %w", explain(err))
	}
	defer result.Body.Close()
	var said host.Lines
	layer := ""
	messages := json.NewDecoder(result.Body)
	for {
		var message jsonstream.Message
		if err := messages.Decode(&message); errors.Is(err, io.EOF) {
			return stages, nil
		} else if err != nil {
			return nil, fmt.Errorf("build: what the builder says breaks off: %w%s", explain(err), host.QuoteLog(said.Last(30)))
		}
		for line := range strings.Lines(message.Stream) {
			// Programs colour what they say and rewrite their line.
			if line = strings.TrimSpace(escapes.ReplaceAllString(line, "")); line != "" {
				said.Add(line)
				log(name + " image: " + line)
				if id := layerLine.FindStringSubmatch(line); id != nil {
					layer = id[1]
				} else if stageLine.MatchString(line) && layer != "" {
					stages = append(stages, layer)
				}
			}
		}
		if message.Error != nil {
			return nil, fmt.Errorf("build: %w%s", explain(errors.New(message.Error.Message)), host.QuoteLog(said.Last(30)))
		}
	}
}

// What the classic builder says of its layers and stages.
var (
	layerLine = regexp.MustCompile(`^---> ([0-9a-f]{12})$`)
	stageLine = regexp.MustCompile(`^Step \d+/\d+ : FROM `)
)

// replaceStages removes the stages of the build before this one, with the layers that this one does not share: a
// compiler's leavings are larger than what is shipped. Which they are is remembered, as nothing in the engine tells whose
// they are.
func (e *Engine) replaceStages(ctx context.Context, name string, stages []string) {
	path := filepath.Join(e.cacheDir, "stages-"+name+".json")
	var older []string
	if text, err := os.ReadFile(path); err == nil {
		_ = json.Unmarshal(text, &older)
	}
	for _, id := range older {
		// One that is gone or in use is as good as removed; one with a name is somebody's base.
		if found, err := e.c.api.ImageInspect(ctx, id); err == nil && len(found.RepoTags) == 0 && !slices.Contains(stages, id) {
			_, _ = e.c.api.ImageRemove(ctx, id, client.ImageRemoveOptions{PruneChildren: true})
		}
	}
	text, err := json.Marshal(stages)
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		e.log("remember the stages of an image: " + err.Error())
	}
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[a-zA-Z]|\r")

// hold makes a container of the image that is never started and goes with the run: between two trials nothing else may
// use the image, and a run of another checkout takes those that nothing uses for old ones.
func (e *Engine) hold(ctx context.Context, name string, i image) error {
	making, cancel := whole(ctx)
	defer cancel()
	made, err := e.c.api.ContainerCreate(making, client.ContainerCreateOptions{
		Name:       fmt.Sprintf("%s%s-hold-%s-%s", namePrefix, e.owner.run, name, host.RandomHex(3)),
		Config:     &container.Config{Image: i.reference, Cmd: []string{"held"}, Labels: e.owner.labels("hold")},
		HostConfig: &container.HostConfig{NetworkMode: "none"},
	})
	if err != nil {
		return fmt.Errorf("hold image %s: %w", i.reference, explain(err))
	}
	e.stops.Keep(func(ctx context.Context) error { return explain(e.c.removeContainer(ctx, made.ID)) })
	return nil
}

// removeOlder removes images of the same name with other inputs, and layers of theirs that nothing uses. One that a
// container is made of stays, with all its names: the engine itself would take all but the last from it.
func (c *connection) removeOlder(ctx context.Context, name string, keep image, log func(string)) {
	containers, err := c.api.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		log(fmt.Sprintf("look for older images: %v", err))
		return
	}
	used := map[string]bool{keep.id: true}
	for _, item := range containers.Items {
		used[item.ImageID] = true
	}
	found, err := c.api.ImageList(ctx, client.ImageListOptions{Filters: make(client.Filters).Add("label", labelImage+"="+name)})
	if err != nil {
		log(fmt.Sprintf("look for older images: %v", err))
		return
	}
	for _, old := range found.Items {
		if used[old.ID] {
			continue
		}
		for _, tag := range old.RepoTags {
			if !strings.HasPrefix(tag, "polyglot-lab/"+name+":") || strings.HasSuffix(tag, ":compose") {
				continue
			}
			if _, err := c.api.ImageRemove(ctx, tag, client.ImageRemoveOptions{PruneChildren: true}); err == nil {
				log("removed the older image " + tag)
			}
		}
	}
}

// file is one of a build's context.
type file struct {
	name    string
	mode    fs.FileMode
	content []byte
}

// contextFiles are those of the folder and of the contract that .dockerignore lets into a build, by their names.
func contextFiles(root, folder string) ([]file, error) {
	text, err := os.ReadFile(filepath.Join(root, ".dockerignore"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	patterns, err := ignorefile.ReadAll(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf(".dockerignore: %w", err)
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf(".dockerignore: %w", err)
	}
	var files []file
	for _, top := range []string{"contract", folder} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			name = filepath.ToSlash(name)
			skip, err := ignored.MatchesOrParentMatches(name)
			if err != nil {
				return fmt.Errorf(".dockerignore: %w", err)
			}
			if entry.IsDir() {
				if skip && !mayContain(ignored, name) {
					return fs.SkipDir
				}
				return nil
			}
			if skip {
				return nil
			}
			if !entry.Type().IsRegular() {
				return fmt.Errorf("%s is neither a file nor a folder", name)
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			// Of a file's mode only whether it is a program: the rest depends on whose machine this is.
			mode := fs.FileMode(0o644)
			if info.Mode()&0o111 != 0 {
				mode = 0o755
			}
			files = append(files, file{name, mode, content})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files, nil
}

// mayContain says whether an exception of .dockerignore may lie below a folder that is ignored.
func mayContain(ignored *patternmatcher.PatternMatcher, folder string) bool {
	return slices.ContainsFunc(ignored.Patterns(), func(p *patternmatcher.Pattern) bool {
		return p.Exclusion() && strings.HasPrefix(p.String()+"/", folder+"/")
	})
}

// packageSettings are this machine's, for builder stages: scripts/build-settings collects them. What it warns of is the
// cause of a build that will fail, so it goes to the log.
func packageSettings(ctx context.Context, root string, log func(string)) ([]file, error) {
	readme := filepath.Join(root, settingsFolder, "README.md")
	content, err := os.ReadFile(readme)
	if err != nil {
		return nil, err
	}
	files := []file{{settingsFolder + "/README.md", 0o644, content}}
	dir, err := os.MkdirTemp("", "polyglot-lab-build-settings-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	output, err := exec.CommandContext(ctx, filepath.Join(root, "scripts", "build-settings"), dir).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("scripts/build-settings: %w: %s", err, bytes.TrimSpace(output))
	}
	for line := range strings.Lines(string(output)) {
		log(strings.TrimSpace(line))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		info, err := entry.Info()
		if err != nil {
			return nil, err
		}
		files = append(files, file{settingsFolder + "/" + entry.Name(), info.Mode().Perm(), content})
	}
	return files, nil
}

// writeTar writes the same bytes for the same files, folders before what is in them, as the engine's own client does: so
// the builder's cache serves both, and what scripts/stack has built is not built again.
func writeTar(w io.Writer, files []file) error {
	archive := tar.NewWriter(w)
	folders := map[string]bool{".": true}
	for _, f := range files {
		var missing []string
		for folder := path.Dir(f.name); !folders[folder]; folder = path.Dir(folder) {
			folders[folder] = true
			missing = append(missing, folder)
		}
		for _, folder := range slices.Backward(missing) {
			header := &tar.Header{Typeflag: tar.TypeDir, Name: folder + "/", Mode: 0o755, ModTime: time.Unix(0, 0)}
			if err := archive.WriteHeader(header); err != nil {
				return err
			}
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: int64(f.mode), Size: int64(len(f.content)), ModTime: time.Unix(0, 0)}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(f.content); err != nil {
			return err
		}
	}
	return archive.Close()
}
