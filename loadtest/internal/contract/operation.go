package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"sort"
)

// Operation is one folder of operations/.
type Operation struct {
	Name  string
	Query string
	// Variables is a JSON object, as written.
	Variables json.RawMessage
	// OperationName is empty unless operation.json gives one.
	OperationName string
	// Expected is the answer over the size small; errors are reduced to path and extensions.code.
	Expected json.RawMessage
	// Statements says how often each statement may run, by setting.
	Statements Counts
}

// Setting is a way to start a server that changes how many statements it runs, written as in the name of an arm.
type Setting string

// The settings that statements.json knows.
const (
	Default             Setting = "default"
	LoaderOff           Setting = "LOADER=off"
	MasterNone          Setting = "MASTER=none"
	LoaderOffMasterNone Setting = "LOADER=off+MASTER=none"
)

// Settings are all of them, in the order in which files list them.
var Settings = []Setting{Default, LoaderOff, MasterNone, LoaderOffMasterNone}

// The settings that follow from those: what Redis has is not asked of the database, and what it has not is, as with
// MASTER=none.
const (
	MasterRedis          Setting = "MASTER=redis"
	LoaderOffMasterRedis Setting = "LOADER=off+MASTER=redis"
)

// MasterStatements read master data.
var MasterStatements = []string{"areas", "areas_by_ids", "genres", "genres_by_ids", "holidays"}

// WithRedis adds the settings that follow from the others. Statements for master data may run as often as without any cache
// and, after a change, once more as when memory is read anew; all others run as always.
func (c Counts) WithRedis() {
	for redis, of := range map[Setting][2]Setting{MasterRedis: {Default, MasterNone}, LoaderOffMasterRedis: {LoaderOff, LoaderOffMasterNone}} {
		ranges := maps.Clone(c[of[1]])
		for _, name := range MasterStatements {
			if most := c[of[0]][name].Max + c[of[1]][name].Max; most > 0 {
				ranges[name] = Range{0, most}
			}
		}
		c[redis] = ranges
	}
}

// SettingOf gives the setting of a server started with that environment.
func SettingOf(environment map[string]string) Setting {
	loaderOff, masterNone := environment["LOADER"] == "off", environment["MASTER"] == "none"
	redis := environment["MASTER"] == "redis"
	switch {
	case loaderOff && redis:
		return LoaderOffMasterRedis
	case redis:
		return MasterRedis
	case loaderOff && masterNone:
		return LoaderOffMasterNone
	case loaderOff:
		return LoaderOff
	case masterNone:
		return MasterNone
	}
	return Default
}

// Range is how often a statement may run for one request, both ends allowed. Written [min, max].
type Range struct{ Min, Max int }

// Contains tells whether n runs are allowed.
func (r Range) Contains(n int) bool { return r.Min <= n && n <= r.Max }

// MarshalJSON writes [min, max].
func (r Range) MarshalJSON() ([]byte, error) { return json.Marshal([2]int{r.Min, r.Max}) }

// UnmarshalJSON reads [min, max].
func (r *Range) UnmarshalJSON(text []byte) error {
	var ends []int
	if err := json.Unmarshal(text, &ends); err != nil || len(ends) != 2 || ends[0] < 0 || ends[1] < ends[0] || ends[1] == 0 {
		return fmt.Errorf("%s is no range [min, max] with 0 <= min <= max and max above 0", text)
	}
	r.Min, r.Max = ends[0], ends[1]
	return nil
}

// Counts says how often each statement may run; one that is not named must not run.
type Counts map[Setting]map[string]Range

// All is how many statements one request may take in a setting, whichever they are.
func (c Counts) All(setting Setting) (all Range) {
	for _, r := range c[setting] {
		all.Min, all.Max = all.Min+r.Min, all.Max+r.Max
	}
	return all
}

var operationName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

func loadOperations(dir string, c *Contract, expectations bool) ([]*Operation, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var operations []*Operation
	for _, entry := range entries {
		if !entry.IsDir() {
			if entry.Name() == "README.md" {
				continue
			}
			return nil, fmt.Errorf("%s: only folders and README.md belong here", filepath.Join(dir, entry.Name()))
		}
		if !operationName.MatchString(entry.Name()) {
			return nil, fmt.Errorf("%s: an operation's name is made of a-z, 0-9 and _", filepath.Join(dir, entry.Name()))
		}
		o, err := loadOperation(filepath.Join(dir, entry.Name()), c, expectations)
		if err != nil {
			return nil, err
		}
		operations = append(operations, o)
	}
	for _, headline := range []string{"q1", "q2", "q3"} {
		i := sort.Search(len(operations), func(i int) bool { return operations[i].Name >= headline })
		if i == len(operations) || operations[i].Name != headline {
			return nil, fmt.Errorf("%s: the headline operation %s is missing", dir, headline)
		}
	}
	return operations, nil
}

func loadOperation(dir string, c *Contract, expectations bool) (*Operation, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		switch entry.Name() {
		case "query.graphql", "variables.json", "operation.json", "expected.json", "statements.json":
		default:
			return nil, fmt.Errorf("%s: unknown file", filepath.Join(dir, entry.Name()))
		}
	}
	o := &Operation{Name: filepath.Base(dir)}
	query, err := os.ReadFile(filepath.Join(dir, "query.graphql")) // may be empty: an empty query is a case of its own
	if err != nil {
		return nil, err
	}
	o.Query = string(query)
	if o.Variables, err = readObject(filepath.Join(dir, "variables.json")); err != nil {
		return nil, err
	}
	var named struct {
		OperationName string `json:"operationName"`
	}
	operationFile := filepath.Join(dir, "operation.json")
	if err := readStrict(operationFile, &named); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	} else if err == nil && named.OperationName == "" {
		return nil, fmt.Errorf(`%s: key "operationName" is empty`, operationFile)
	}
	o.OperationName = named.OperationName
	if !expectations {
		return o, nil
	}
	if o.Expected, err = readObject(filepath.Join(dir, "expected.json")); err != nil {
		return nil, err
	}
	statementsFile := filepath.Join(dir, "statements.json")
	if err := readStrict(statementsFile, &o.Statements); err != nil {
		return nil, err
	}
	for _, setting := range Settings {
		if _, ok := o.Statements[setting]; !ok {
			return nil, fmt.Errorf("%s: key %q is missing", statementsFile, setting)
		}
	}
	for setting, counts := range o.Statements {
		if !known(setting) {
			return nil, fmt.Errorf("%s: key %q is unknown", statementsFile, setting)
		}
		for statement := range counts {
			if _, ok := c.Statements[statement]; !ok {
				return nil, fmt.Errorf("%s: key %q of %q is no statement", statementsFile, statement, setting)
			}
		}
	}
	o.Statements.WithRedis()
	return o, nil
}

func known(setting Setting) bool {
	for _, s := range Settings {
		if s == setting {
			return true
		}
	}
	return false
}

// readObject reads a file that holds one JSON object and keeps its text.
func readObject(file string) (json.RawMessage, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	text = bytes.TrimSpace(text)
	if !json.Valid(text) {
		return nil, fmt.Errorf("%s: is not JSON", file)
	}
	if text[0] != '{' {
		return nil, fmt.Errorf("%s: must be an object", file)
	}
	return text, nil
}
