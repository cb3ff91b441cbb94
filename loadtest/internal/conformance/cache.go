package conformance

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
)

// digests name all that a proof depends on: the contract, the engine, the server as serverDigest names it, and this
// program, which makes the checks; and the server alone. The seed is left out: a proof with any seed is one.
func digests(c *contract.Contract, engineName, identity string, arm contender.Arm) (proof, server string, err error) {
	own, err := thisProgram()
	if err != nil {
		return "", "", fmt.Errorf("digest: %w", err)
	}
	if server, err = serverDigest(identity, arm); err != nil {
		return "", "", err
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "program %s\ncontract %s\nengine %s\nserver %s\n", own, c.Digest, engineName, server)
	return hex.EncodeToString(sum.Sum(nil)), server, nil
}

// serverDigest names a server: what the engine starts, the arm's settings, the server's sources and program.
func serverDigest(identity string, arm contender.Arm) (string, error) {
	sum := sha256.New()
	fmt.Fprintf(sum, "identity %s\ntier %s\nstart %q\n", identity, arm.Tier, arm.Start)
	for _, name := range slices.Sorted(maps.Keys(arm.Environment)) {
		fmt.Fprintf(sum, "setting %s=%s\n", name, arm.Environment[name])
	}
	if arm.Dir != "" {
		if err := addFolder(sum, filepath.Join(arm.Root, arm.Dir)); err != nil {
			return "", fmt.Errorf("digest of %s: %w", arm.Dir, err)
		}
	}
	for _, word := range arm.Start {
		if strings.Contains(word, "/") {
			file := word
			if !filepath.IsAbs(file) {
				file = filepath.Join(arm.Root, file)
			}
			// One that is not there cannot be started, which the engine says better.
			if err := addFile(sum, word, file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", fmt.Errorf("digest of %s: %w", word, err)
			}
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

var thisProgram = sync.OnceValues(func() (string, error) {
	file, err := os.Executable()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	if err := addFile(sum, "", file); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
})

// builtFolders hold what is made from the sources, or tests: what of it runs is digested as the program.
var builtFolders = []string{"target", "test", "tests"}

// codeSuffixes are what of node_modules runs in a server; the rest (maps, types, documentation) is left out, as it is a
// hundred megabytes.
var codeSuffixes = []string{".js", ".cjs", ".mjs", ".json", ".node", ".wasm"}

func addFolder(sum io.Writer, dir string) error {
	return filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if file != dir && (strings.HasPrefix(name, ".") || entry.IsDir() && slices.Contains(builtFolders, name)) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() || filepath.Ext(name) == ".md" { // a server does not read what people do
			return nil
		}
		relative, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		if strings.Contains(relative, "node_modules") && !slices.Contains(codeSuffixes, filepath.Ext(name)) {
			return nil
		}
		return addFile(sum, relative, file)
	})
}

func addFile(sum io.Writer, name, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	var content hash.Hash = sha256.New()
	n, err := io.Copy(content, file)
	if err != nil {
		return err
	}
	fmt.Fprintf(sum, "file %q %d %x\n", name, n, content.Sum(nil))
	return nil
}

func (p *prover) cacheFile(form Form, digest string) string {
	return filepath.Join(p.CacheDir, "conformance", digest+"-"+string(form)+".json")
}

// cached looks a report up; the full form holds for the short one too. A file that cannot be read is as good as none.
func (p *prover) cached(digest string) (Report, bool) {
	if p.CacheDir == "" || p.Fresh || len(p.Checks) > 0 {
		return Report{}, false
	}
	forms := []Form{Full}
	if p.Form == Short {
		forms = append(forms, Short)
	}
	for _, form := range forms {
		text, err := os.ReadFile(p.cacheFile(form, digest))
		if err != nil {
			continue
		}
		var report Report
		if json.Unmarshal(text, &report) == nil && report.Digest == digest && report.Form == form && report.Conformant {
			return report, true
		}
	}
	return Report{}, false
}

// keep puts a conformant report on disk; findings are never kept.
func (p *prover) keep(report Report) error {
	if p.CacheDir == "" {
		return nil
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return fmt.Errorf("keep the report: %w", err)
	}
	file := p.cacheFile(report.Form, report.Digest)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("keep the report: %w", err)
	}
	// Moved into place, so that nobody reads half of it.
	temporary, err := os.CreateTemp(filepath.Dir(file), ".report-")
	if err != nil {
		return fmt.Errorf("keep the report: %w", err)
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(text)
	if closeErr := temporary.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temporary.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("keep the report: %w", err)
	}
	return nil
}
