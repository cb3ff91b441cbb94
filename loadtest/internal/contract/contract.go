// Package contract loads and validates the contract folder: the one definition of what every server is. It is pure
// data: nothing here runs a statement or sends a request.
package contract

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
)

// Contract is all that the contract folder says.
type Contract struct {
	// Dir is the folder it was read from.
	Dir string
	// SchemaText is schema.graphql as written; Schema is the same, parsed, with the types and the four directives
	// that the contract allows and no others.
	SchemaText string
	Schema     *ast.Schema
	Limits     Limits
	// Sizes and Digests are by the name of the size (small, standard).
	Sizes   map[string]Size
	Digests map[string]string
	// SchemaSQL creates the tables, SeedSQL fills them, DigestSQL tells whether two databases hold the same rows.
	SchemaSQL string
	SeedSQL   string
	DigestSQL string
	// Statements are the texts of sql/statements, verbatim, by the file's stem.
	Statements map[string]string
	// Operations are in order of their names.
	Operations []*Operation
	Errors     *ErrorTable
	// Digest is a SHA-256 over every file of the folder (path and bytes, in order of paths); PartDigests has the same
	// for each entry of the folder's top level.
	Digest      string
	PartDigests map[string]string
}

// Limits is limits.json.
type Limits struct {
	BodyBytes        int      `json:"bodyBytes"`
	Tokens           int      `json:"tokens"`
	Depth            int      `json:"depth"`
	Aliases          int      `json:"aliases"`
	Cost             int      `json:"cost"`
	PageSize         int      `json:"pageSize"`
	RankingSize      int      `json:"rankingSize"`
	BusinessDays     int      `json:"businessDays"`
	RequestTimeout   Duration `json:"requestTimeout"`
	RequestsInFlight int      `json:"requestsInFlight"`
	CachedDocuments  int      `json:"cachedDocuments"`
}

// Duration is a length of time, written as in "5s".
type Duration time.Duration

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration such as \"5s\"", text)
	}
	*d = Duration(parsed)
	return nil
}

// Size is how many rows each table gets.
type Size struct {
	Items      int `json:"items"`
	Users      int `json:"users"`
	Reviews    int `json:"reviews"`
	Categories int `json:"categories"`
	Areas      int `json:"areas"`
	Genres     int `json:"genres"`
}

// Load reads the contract folder and fails on anything missing, unknown or malformed.
func Load(dir string) (*Contract, error) {
	return load(dir, true)
}

// LoadWithoutExpectations is Load for the program that makes expected.json and statements.json: these two may be
// missing and are not read.
func LoadWithoutExpectations(dir string) (*Contract, error) {
	return load(dir, false)
}

func load(dir string, expectations bool) (*Contract, error) {
	c := &Contract{Dir: dir}
	if err := c.loadSchema(); err != nil {
		return nil, err
	}
	if err := c.loadLimits(); err != nil {
		return nil, err
	}
	if err := c.loadSQL(); err != nil {
		return nil, err
	}
	var err error
	if c.Errors, err = loadErrorTable(filepath.Join(dir, "errors.json")); err != nil {
		return nil, err
	}
	if c.Operations, err = loadOperations(filepath.Join(dir, "operations"), c, expectations); err != nil {
		return nil, err
	}
	if c.Digest, c.PartDigests, err = digestFolder(dir); err != nil {
		return nil, err
	}
	return c, nil
}

// Operation gives the operation of that name.
func (c *Contract) Operation(name string) (*Operation, error) {
	i := sort.Search(len(c.Operations), func(i int) bool { return c.Operations[i].Name >= name })
	if i < len(c.Operations) && c.Operations[i].Name == name {
		return c.Operations[i], nil
	}
	return nil, fmt.Errorf("no operation %q in %s", name, filepath.Join(c.Dir, "operations"))
}

func (c *Contract) loadSchema() error {
	file := filepath.Join(c.Dir, "schema.graphql")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	c.SchemaText = string(text)
	schema, gqlErr := gqlparser.LoadSchema(&ast.Source{Name: "schema.graphql", Input: c.SchemaText})
	if gqlErr != nil {
		return fmt.Errorf("%s: %w", file, gqlErr)
	}
	for name := range schema.Directives {
		switch name {
		case "skip", "include", "deprecated", "specifiedBy":
		default:
			delete(schema.Directives, name)
		}
	}
	if schema.Query == nil || schema.Mutation == nil {
		return fmt.Errorf("%s: types Query and Mutation are needed", file)
	}
	c.Schema = schema
	return nil
}

func (c *Contract) loadLimits() error {
	file := filepath.Join(c.Dir, "limits.json")
	if err := readStrict(file, &c.Limits); err != nil {
		return err
	}
	for _, limit := range []struct {
		key   string
		value int64
	}{
		{"bodyBytes", int64(c.Limits.BodyBytes)}, {"tokens", int64(c.Limits.Tokens)}, {"depth", int64(c.Limits.Depth)},
		{"aliases", int64(c.Limits.Aliases)}, {"cost", int64(c.Limits.Cost)}, {"pageSize", int64(c.Limits.PageSize)},
		{"rankingSize", int64(c.Limits.RankingSize)}, {"businessDays", int64(c.Limits.BusinessDays)},
		{"requestTimeout", int64(c.Limits.RequestTimeout)}, {"requestsInFlight", int64(c.Limits.RequestsInFlight)},
		{"cachedDocuments", int64(c.Limits.CachedDocuments)},
	} {
		if limit.value <= 0 {
			return fmt.Errorf("%s: key %q must be above 0, not %d", file, limit.key, limit.value)
		}
	}
	return nil
}

func (c *Contract) loadSQL() error {
	dir := filepath.Join(c.Dir, "sql")
	for name, target := range map[string]*string{"schema.sql": &c.SchemaSQL, "seed.sql": &c.SeedSQL, "digest.sql": &c.DigestSQL} {
		text, err := readText(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		*target = text
	}
	sizesFile, digestsFile := filepath.Join(dir, "sizes.json"), filepath.Join(dir, "digests.json")
	if err := readStrict(sizesFile, &c.Sizes); err != nil {
		return err
	}
	if err := readStrict(digestsFile, &c.Digests); err != nil {
		return err
	}
	for _, name := range []string{"small", "standard"} {
		if _, ok := c.Sizes[name]; !ok {
			return fmt.Errorf("%s: key %q is missing", sizesFile, name)
		}
	}
	for name, size := range c.Sizes {
		for key, rows := range map[string]int{"items": size.Items, "users": size.Users, "reviews": size.Reviews,
			"categories": size.Categories, "areas": size.Areas, "genres": size.Genres} {
			if rows <= 0 {
				return fmt.Errorf("%s: key %q of %q must be above 0", sizesFile, key, name)
			}
		}
		if len(c.Digests[name]) != 32 {
			return fmt.Errorf("%s: key %q must be an MD5 of 32 hexadecimal digits", digestsFile, name)
		}
	}
	for name := range c.Digests {
		if _, ok := c.Sizes[name]; !ok {
			return fmt.Errorf("%s: key %q has no size in sizes.json", digestsFile, name)
		}
	}

	statements := filepath.Join(dir, "statements")
	entries, err := os.ReadDir(statements)
	if err != nil {
		return err
	}
	c.Statements = make(map[string]string, len(entries))
	for _, entry := range entries {
		file := filepath.Join(statements, entry.Name())
		stem, isSQL := strings.CutSuffix(entry.Name(), ".sql")
		if !isSQL || stem == "" || !entry.Type().IsRegular() {
			return fmt.Errorf("%s: only files named NAME.sql belong here", file)
		}
		if c.Statements[stem], err = readText(file); err != nil {
			return err
		}
	}
	if len(c.Statements) == 0 {
		return fmt.Errorf("%s: no statement", statements)
	}
	return nil
}

// readText reads a file that must not be empty.
func readText(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if strings.TrimSpace(string(text)) == "" {
		return "", fmt.Errorf("%s: is empty", file)
	}
	return string(text), nil
}
