package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"lab/loadtest/internal/record"
	"lab/loadtest/internal/report"
)

// published is how the report of a run in results/ is made: its page is made anew where it is wanted (make report), and
// pictures are SVG only, which is small and which the README shows.
func published() report.Options {
	return report.Options{CacheDir: cacheDir(), NoPage: true, NoPNG: true}
}

// publishMain copies a run's records to results/, makes its README and pictures there, and puts picture and table into
// the repository's pages.
func publishMain(ctx context.Context, args []string, s streams) int {
	f := newFlags("publish", "DIR [flags]")
	update := f.String("update", "", "`FILE,…` at the repository's root whose text between the markers of make publish is replaced")
	guide := f.String("guide", "", "`FILE,…` in docs/ whose text between those markers becomes the decision tree with the run's verdicts, where it has claims")
	if code, ok := parseWith(f, args, s, 1); !ok {
		return code
	}
	l, err := openLab()
	if err != nil {
		return fail(ctx, s, "publish", err)
	}
	pages, err := openPages(*update, publishCommand)
	if err != nil {
		return fail(ctx, s, "publish", err)
	}
	guides, err := openPages(*guide, publishCommand)
	if err != nil {
		return fail(ctx, s, "publish", err)
	}
	to, err := publish(ctx, l.root, f.Arg(0), pages, guides)
	if err != nil {
		return fail(ctx, s, "publish", err)
	}
	fmt.Fprintln(s.Out, to)
	return exitOK
}

func publish(ctx context.Context, root, from string, pages, guides pages) (to string, err error) {
	saved, err := record.Open(from)
	if err != nil {
		return "", err
	}
	if err := publishable(saved.Run); err != nil {
		return "", fmt.Errorf("%s: %w", from, err)
	}
	if err := tellsNothing(root, from, saved.Run); err != nil {
		return "", err
	}
	made, err := report.Make(ctx, saved, published())
	if err != nil {
		return "", err
	}
	block, err := report.Excerpt(saved, "results/"+saved.Run.ID+"/")
	if err != nil {
		return "", err
	}
	tree := ""
	if len(guides.texts) > 0 && len(saved.Run.Scenarios) > 0 {
		if tree, err = report.Guide(saved, "../results/"+saved.Run.ID+"/"); err != nil {
			return "", err
		}
	}
	to = filepath.Join(root, "results", saved.Run.ID)
	if _, err = os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
		err = putThere(root, from, to, saved.Run, made)
	} else if err == nil {
		// The last time may have ended between the folder and the pages.
		err = sameThere(from, to, saved.Run, made)
	}
	if err != nil {
		return "", err
	}
	if tree != "" {
		if err := guides.splice(tree); err != nil {
			return "", err
		}
	}
	return to, pages.splice(block)
}

// sameThere says where a run that is in results/ already is not the one to publish.
func sameThere(from, to string, r record.Run, made report.Report) error {
	for _, name := range recordFiles(r) {
		want, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || !bytes.Equal(got, want) {
			return fmt.Errorf("%s is there already, and its %s is another; a published run is never changed", to, name)
		}
	}
	if err := made.Equal(to); err != nil {
		return fmt.Errorf("%s is there already with the same records, but: %w; first make its pages anew: loadtest report %s", to, err, to)
	}
	return nil
}

// putThere copies a run's records and what was made of them.
func putThere(root, from, to string, r record.Run, made report.Report) (err error) {
	// Put together beside its place and renamed, so that half a run is never published.
	half, err := os.MkdirTemp(filepath.Join(root, "results"), ".publishing-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(half)) }()
	for _, name := range recordFiles(r) {
		b, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(half, name)), 0o755); err != nil {
			return err
		}
		if err := record.WriteFile(filepath.Join(half, name), b); err != nil {
			return err
		}
	}
	if err := made.Write(half); err != nil {
		return err
	}
	if err := os.Chmod(half, 0o755); err != nil {
		return err
	}
	return os.Rename(half, to)
}

// recordFiles are the files of a run's folder that are records.
func recordFiles(r record.Run) []string {
	names := []string{"run.json"}
	for _, t := range r.Trials {
		for _, name := range t.Files() {
			names = append(names, filepath.Join("trials", name))
		}
	}
	return names
}

// publishable says why a run must not be shown as a result.
func publishable(r record.Run) error {
	switch {
	case !r.Evidence:
		return fmt.Errorf("a %s run is no evidence and is not published", r.Profile)
	case !r.Complete:
		return errors.New("the run was interrupted and is not published")
	case r.ID != filepath.Base(r.ID) || strings.HasPrefix(r.ID, ".") || r.ID == "local":
		return fmt.Errorf("its id %q is no name for a folder of results/", r.ID)
	}
	proven := map[string]bool{}
	for _, c := range r.Conformance {
		proven[c.Arm] = c.Conformant
	}
	for _, t := range r.Trials {
		if t.Nonconformant || !proven[t.Arm] { // bench-servers proves nothing
			return fmt.Errorf("%s was not proven to answer as the contract asks, so the run is not published", t.Arm)
		}
	}
	return nil
}

// tellsNothing says where a record tells of the machine what is nobody's business: its name and its folders.
func tellsNothing(root, from string, r record.Run) error {
	private := map[string]string{root: "the repository's folder"}
	if host, err := os.Hostname(); err == nil && len(host) > 3 && host != "localhost" {
		private[host] = "this machine's name"
	}
	for _, dir := range []func() (string, error){os.UserHomeDir, os.UserCacheDir, os.Getwd} {
		if name, err := dir(); err == nil && len(name) > 1 {
			private[name] = "a folder of this machine"
		}
	}
	for _, name := range recordFiles(r) {
		b, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		for text, what := range private {
			if bytes.Contains(b, []byte(text)) {
				return fmt.Errorf("%s has %q in it, %s: not published", filepath.Join(from, name), text, what)
			}
		}
	}
	return nil
}
