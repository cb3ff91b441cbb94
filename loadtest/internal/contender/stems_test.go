package contender

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sources says where a server's stems are, what its files end in, and which files are no stems (generated ones, and
// what the language needs).
var sources = map[string]struct {
	dirs   []string
	ending string
	extra  []string
}{
	"go-server":   {[]string{".", "server"}, ".go", []string{"generated", "models_gen"}},
	"node-server": {[]string{"src"}, ".ts", nil},
	"rust-server": {[]string{"src"}, ".rs", []string{"lib"}},
}

var stems = []string{"main", "config", "app", "schema", "resolvers", "loaders", "store", "master", "cache", "upstream", "limits", "errors", "logging", "telemetry", "health", "http", "ranking", "floor", "workers", "bench", "profile"}

// names are concepts that a reader of one server must find in the others: by stem, in the writing of Node; the other
// languages write them in their own case.
var names = map[string][]string{
	"loaders":  {"newLoaders", "reviewsByItemIds", "reviewsByUserIds", "itemsByCategoryIds"},
	"master":   {"addBusinessDays", "renameArea", "listen"},
	"limits":   {"checkTokens", "checkLimits"},
	"ranking":  {"rankItems"},
	"workers":  {"startWorkers"},
	"upstream": {"quote"},
	"store":    {"addReview", "renameArea"},
	"bench":    {"bench", "handOver", "checksum"},
	"health":   {"livez", "readyz"},
	"http":     {"negotiate"},
	"profile":  {"profile", "fold"},
}

func TestStemsAreTheSame(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	for server, s := range sources {
		var got []string
		for _, dir := range s.dirs {
			entries, err := os.ReadDir(filepath.Join(root, server, dir))
			require.NoError(t, err)
			for _, e := range entries {
				stem, ok := strings.CutSuffix(e.Name(), s.ending)
				if !ok || strings.HasSuffix(stem, "_test") || contains(s.extra, stem) {
					continue
				}
				got = append(got, stem)
			}
		}
		assert.ElementsMatch(t, stems, got, server)
	}
}

func TestNamesAreTheSame(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	for server, s := range sources {
		for stem, concepts := range names {
			text := ""
			for _, dir := range s.dirs {
				b, err := os.ReadFile(filepath.Join(root, server, dir, stem+s.ending))
				if err == nil {
					text += string(b)
				}
			}
			for _, concept := range concepts {
				assert.True(t, definition(s.ending, concept).MatchString(text), "%s %s defines no %s", server, stem, concept)
			}
		}
	}
}

// definition matches where a name is defined, in the case of the language: Ids becomes IDs in Go, snake in Rust.
func definition(ending, concept string) *regexp.Regexp {
	switch ending {
	case ".go":
		concept = strings.ReplaceAll(concept, "Ids", "IDs")
		first := "[" + strings.ToUpper(concept[:1]) + strings.ToLower(concept[:1]) + "]"
		return regexp.MustCompile(`(?m)^(func (\([^)]*\) )?|\t)` + first + concept[1:] + `\b`)
	case ".rs":
		snake := regexp.MustCompile(`[A-Z]`).ReplaceAllStringFunc(concept, func(c string) string { return "_" + strings.ToLower(c) })
		return regexp.MustCompile(`\b(fn|pub) ` + snake + `\b`)
	}
	return regexp.MustCompile(`(?m)(function |const |^\s+(readonly |async |private |static )*#?)` + concept + `\b\s*[(<:=]`)
}

func contains(list []string, x string) bool {
	for _, y := range list {
		if x == y {
			return true
		}
	}
	return false
}
