package contract_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contract"
)

const contractDir = "../../../contract"

func TestLoadReadsTheContract(t *testing.T) {
	c, err := contract.Load(contractDir)
	require.NoError(t, err)

	assert.Equal(t, 500, c.Limits.PageSize)
	assert.Equal(t, 5*time.Second, time.Duration(c.Limits.RequestTimeout))
	assert.Equal(t, 10000, c.Sizes["standard"].Items)
	assert.Contains(t, c.Statements["items_by_ids"], "any($1::int4[])")
	assert.NotNil(t, c.Schema.Types["AddReviewResult"])
	assert.ElementsMatch(t, []string{"skip", "include", "deprecated", "specifiedBy"}, keys(c.Schema.Directives))
	assert.GreaterOrEqual(t, len(c.Operations), 30)
	q1, err := c.Operation("q1")
	require.NoError(t, err)
	assert.Equal(t, contract.Range{Min: 1, Max: 1}, q1.Statements[contract.Default]["categories_by_ids"])
	q2, err := c.Operation("q2")
	require.NoError(t, err)
	assert.Equal(t, contract.Range{Min: 1, Max: 1}, q2.Statements[contract.MasterNone]["areas_by_ids"])
	assert.Equal(t, contract.Range{Max: 1}, q2.Statements[contract.MasterRedis]["areas_by_ids"], "Redis may have them")
	assert.Equal(t, q2.Statements[contract.MasterNone]["users_by_ids"], q2.Statements[contract.MasterRedis]["users_by_ids"], "and has nothing else")
	_, err = c.Operation("q4")
	assert.ErrorContains(t, err, `no operation "q4"`)
	assert.Len(t, c.Digest, 64)
	assert.Contains(t, c.PartDigests, "operations")
	assert.Contains(t, c.PartDigests, "schema.graphql")
}

func keys[V any](m map[string]V) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	return names
}

// The error table is the README's as data.
func TestErrorTableHasEveryCodeOfTheREADME(t *testing.T) {
	c, err := contract.Load(contractDir)
	require.NoError(t, err)
	readme, err := os.ReadFile(filepath.Join(contractDir, "README.md"))
	require.NoError(t, err)
	row := regexp.MustCompile("(?m)^\\s*\\| (`[A-Z_]+`.*?) \\| ([^|]*) \\|")
	code := regexp.MustCompile("`([A-Z][A-Z_]+)`")
	first := regexp.MustCompile(`^\d{3}\b`)
	found := map[string]string{}
	for _, match := range row.FindAllStringSubmatch(string(readme), -1) {
		status := first.FindString(match[2])
		if status == "" || strings.Contains(match[2], ".") {
			continue // a table of something else
		}
		for _, name := range code.FindAllStringSubmatch(match[1], -1) {
			found[name[1]] = status
		}
	}
	require.Len(t, found, len(c.Errors.Codes), "codes of the README: %v", found)
	for name, status := range found {
		entry := c.Errors.Code(name)
		if assert.NotNil(t, entry, name) && name != "INTERNAL_SERVER_ERROR" { // 200 with a path, 500 without: the table has the latter
			assert.Equal(t, status, strconv.Itoa(entry.Status), name)
		}
	}
}

// copyOfContract is a contract that a test may spoil: with the headline operations alone, which suffice.
func copyOfContract(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(dir, "sql"), os.DirFS(filepath.Join(contractDir, "sql"))))
	for _, operation := range []string{"q1", "q2", "q3"} {
		from := os.DirFS(filepath.Join(contractDir, "operations", operation))
		require.NoError(t, os.CopyFS(filepath.Join(dir, "operations", operation), from))
	}
	for _, file := range []string{"schema.graphql", "limits.json", "errors.json"} {
		text, err := os.ReadFile(filepath.Join(contractDir, file))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), text, 0o600))
	}
	return dir
}

func TestStatusOf(t *testing.T) {
	c, err := contract.Load(contractDir)
	require.NoError(t, err)
	for _, row := range []struct {
		name            string
		code            string
		graphqlResponse bool
		want            int
	}{
		{"an answer with data", "", true, 200},
		{"a request error", "GRAPHQL_PARSE_FAILED", true, 400},
		{"the same as application/json", "GRAPHQL_PARSE_FAILED", false, 200},
		{"a malformed request as application/json", "BAD_REQUEST", false, 400},
		{"a timeout as application/json", "REQUEST_TIMEOUT", false, 504},
		{"something else outside execution", "INTERNAL_SERVER_ERROR", true, 500},
	} {
		t.Run(row.name, func(t *testing.T) {
			status, err := c.Errors.StatusOf(row.code, row.graphqlResponse)
			require.NoError(t, err)
			assert.Equal(t, row.want, status)
		})
	}
	for _, code := range []string{"UPSTREAM_FAILED", "NO_SUCH_CODE"} {
		_, err := c.Errors.StatusOf(code, true)
		assert.Error(t, err, code)
	}
}

func TestSettingOfEnvironment(t *testing.T) {
	assert.Equal(t, contract.Default, contract.SettingOf(map[string]string{"LOADER": "on", "TIER": "floor"}))
	assert.Equal(t, contract.LoaderOff, contract.SettingOf(map[string]string{"LOADER": "off"}))
	assert.Equal(t, contract.MasterNone, contract.SettingOf(map[string]string{"MASTER": "none"}))
	assert.Equal(t, contract.LoaderOffMasterNone, contract.SettingOf(map[string]string{"LOADER": "off", "MASTER": "none"}))
	assert.Equal(t, contract.MasterRedis, contract.SettingOf(map[string]string{"MASTER": "redis"}))
	assert.Equal(t, contract.LoaderOffMasterRedis, contract.SettingOf(map[string]string{"LOADER": "off", "MASTER": "redis"}))
}

func TestLoadNamesFileAndKeyOfWhatIsWrong(t *testing.T) {
	replace := func(file, old, replacement string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			text, err := os.ReadFile(filepath.Join(dir, file))
			require.NoError(t, err)
			require.Contains(t, string(text), old)
			require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(strings.Replace(string(text), old, replacement, 1)), 0o600))
		}
	}
	write := func(file, text string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
		}
	}
	remove := func(file string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.RemoveAll(filepath.Join(dir, file)))
		}
	}
	for _, row := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		want  []string
	}{
		{"limit unknown", replace("limits.json", `"depth"`, `"dept"`), []string{"limits.json", `"dept" is unknown`}},
		{"limit missing", replace("limits.json", `"depth": 10,`, ``), []string{"limits.json", `"depth" is missing`}},
		{"limit doubled", replace("limits.json", `"depth": 10,`, `"depth": 10, "depth": 11,`), []string{"limits.json", `"depth" stands twice`}},
		{"limit of another type", replace("limits.json", `"depth": 10`, `"depth": "10"`), []string{"limits.json", "line ", `key "depth" is "10"`, "int was expected"}},
		{"limit null", replace("limits.json", `"depth": 10`, `"depth": null`), []string{"limits.json", `"depth" is null`}},
		{"limit zero", replace("limits.json", `"depth": 10`, `"depth": 0`), []string{"limits.json", `"depth" must be above 0`}},
		{"duration malformed", replace("limits.json", `"5s"`, `"5"`), []string{"limits.json", `"5" is no duration`}},
		{"limits followed by more", write("limits.json", "{} {}"), []string{"limits.json"}},
		{"schema broken", replace("schema.graphql", "type Query {", "type Query"), []string{"schema.graphql"}},
		{"size missing a key", replace("sql/sizes.json", `"genres": 20`, `"genders": 20`), []string{"sizes.json", "small.genders"}},
		{"digest cut short", replace("sql/digests.json", "91605943", ""), []string{"digests.json", `"small"`}},
		{"statement empty", write("sql/statements/items.sql", " \n"), []string{"items.sql", "is empty"}},
		{"stray file among statements", write("sql/statements/notes.txt", "x"), []string{"notes.txt"}},
		{"seed missing", remove("sql/seed.sql"), []string{"seed.sql"}},
		{"error code without status", replace("errors.json", `"status": 413, `, ``), []string{"errors.json", "codes[9].status", "missing"}},
		{"error code twice", replace("errors.json", `"UPSTREAM_FAILED"`, `"BAD_REQUEST"`), []string{"errors.json", `"BAD_REQUEST" stands twice`}},
		{"status that is none", replace("errors.json", `"status": 413`, `"status": 999`), []string{"errors.json", `"status": 999`}},
		{"operation without query", remove("operations/q2/query.graphql"), []string{"q2", "query.graphql"}},
		{"operation not derived", remove("operations/q2/expected.json"), []string{"q2", "expected.json"}},
		{"headline operation missing", remove("operations/q2"), []string{"headline operation q2"}},
		{"variables that are no object", write("operations/q2/variables.json", "[]"), []string{"q2", "variables.json", "must be an object"}},
		{"variables that are no JSON", write("operations/q2/variables.json", "{"), []string{"q2", "variables.json"}},
		{"operation name empty", write("operations/q2/operation.json", `{"operationName":""}`), []string{"operation.json", `"operationName" is empty`}},
		{"operation file with another key", write("operations/q2/operation.json", `{"name":"x"}`), []string{"operation.json", `"name" is unknown`}},
		{"stray file in an operation", write("operations/q2/notes.txt", "x"), []string{"notes.txt", "unknown file"}},
		{"stray file beside operations", write("operations/notes.txt", "x"), []string{"notes.txt"}},
		{"operation's name in another case", write("operations/Q9/query.graphql", "x"), []string{"Q9"}},
		{"statement that is none", replace("operations/q2/statements.json", `"items"`, `"itoms"`), []string{"statements.json", `"itoms"`, `"default"`}},
		{"setting unknown", replace("operations/q2/statements.json", `"MASTER=none"`, `"MASTER=no"`), []string{"statements.json", "MASTER=no"}},
		{"range the wrong way round", replace("operations/q2/statements.json", `[1,1]`, `[2,1]`), []string{"statements.json", "[2,1]"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := copyOfContract(t)
			row.spoil(t, dir)
			_, err := contract.Load(dir)
			require.Error(t, err)
			for _, want := range row.want {
				assert.ErrorContains(t, err, want)
			}
		})
	}
}

func TestDigestTellsAnyChange(t *testing.T) {
	load := func(dir string) *contract.Contract {
		c, err := contract.LoadWithoutExpectations(dir)
		require.NoError(t, err)
		return c
	}
	dir := copyOfContract(t)
	before := load(dir)
	assert.Equal(t, load(copyOfContract(t)).Digest, before.Digest, "the place of the folder does not count")

	file := filepath.Join(dir, "operations", "q1", "variables.json")
	require.NoError(t, os.WriteFile(file, []byte(`{ }`), 0o600))
	after := load(dir)
	assert.NotEqual(t, before.Digest, after.Digest)
	assert.NotEqual(t, before.PartDigests["operations"], after.PartDigests["operations"])
	assert.Equal(t, before.PartDigests["sql"], after.PartDigests["sql"])

	require.NoError(t, os.WriteFile(filepath.Join(dir, ".DS_Store"), []byte("x"), 0o600))
	assert.Equal(t, after.Digest, load(dir).Digest, "files that begin with a dot are no part of the contract")
}
