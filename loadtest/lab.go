package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lab/loadtest/internal/contender"
	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/engine"
	"lab/loadtest/internal/engine/docker"
	"lab/loadtest/internal/engine/native"
	"lab/loadtest/internal/reference"
)

// lab is the repository: the contract and the contenders.
type lab struct {
	root       string
	contract   *contract.Contract
	contenders []contender.Contender
	scenarios  []contract.Scenario
}

// findRoot looks upward from the working directory, then from the program, for the repository.
func findRoot() (string, error) {
	var from []string
	if wd, err := os.Getwd(); err == nil {
		from = append(from, wd)
	}
	if exe, err := os.Executable(); err == nil {
		from = append(from, filepath.Dir(exe))
	}
	for _, dir := range from {
		for {
			if _, err := os.Stat(filepath.Join(dir, "contract", "schema.graphql")); err == nil {
				return dir, nil
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	return "", errors.New("no contract/schema.graphql here or above: run this inside the repository")
}

func openLab() (*lab, error) {
	root, err := findRoot()
	if err != nil {
		return nil, err
	}
	l := &lab{root: root}
	if l.contract, err = contract.Load(filepath.Join(root, "contract")); err != nil {
		return nil, fmt.Errorf("the contract: %w", err)
	}
	if l.contenders, err = contender.Load(root); err != nil {
		return nil, err
	}
	if l.scenarios, err = contract.LoadScenarios(l.contract); err != nil {
		return nil, fmt.Errorf("the contract: %w", err)
	}
	return l, nil
}

// arms resolves a comma-separated list; names not given are those of the default.
func (l *lab) arms(list string, otherwise []string) ([]contender.Arm, error) {
	names := otherwise
	if list != "" {
		names = strings.Split(list, ",")
	}
	var arms []contender.Arm
	for _, name := range names {
		arm, err := contender.Resolve(l.contenders, strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		arms = append(arms, arm)
	}
	return arms, nil
}

// autoEngine is what an engine's name stands for: auto is docker where a container engine answers, else native.
func autoEngine(ctx context.Context, name string, log func(string)) string {
	if name != "auto" {
		return name
	}
	server, err := docker.Answers(ctx)
	if err != nil {
		log("engine native: " + err.Error())
		return "native"
	}
	log("engine docker: " + server.String() + " answers")
	return "docker"
}

// engine starts the engine of that name, or what auto stands for.
func (l *lab) engine(ctx context.Context, name string, log func(string)) (engine.Engine, error) {
	switch autoEngine(ctx, name, log) {
	case "native":
		return native.New(ctx, native.Options{Root: l.root, Contract: l.contract, Log: log})
	case "docker":
		return docker.New(ctx, docker.Options{Root: l.root, Contract: l.contract, Log: log})
	}
	return nil, fmt.Errorf("--engine %q: expected auto, docker or native", name)
}

// question is an operation as it goes over the wire, with the answer that is right for one database.
type question struct {
	name     string
	request  reference.Request
	expected string
	// statements are how many SQL statements it takes there; nil: not known.
	statements contract.Counts
}

// allowed are how many SQL statements each of these questions takes of an arm, by name; one of which it is not known is left out.
func allowed(arm contender.Arm, questions ...question) map[string]contract.Range {
	out := map[string]contract.Range{}
	for _, q := range questions {
		if q.statements != nil {
			out[q.name] = q.statements.All(contract.SettingOf(arm.Environment))
		}
	}
	return out
}

// mutates tells whether the operation writes.
func (q question) mutates() bool {
	return strings.HasPrefix(strings.TrimSpace(q.request.Query), "mutation")
}

// body is what an arm of that tier is sent. Floors know their operations by the text; nobody else may, so they are sent
// the same operation under a name that no other run has.
func (q question) body(tier contender.Tier, seed uint64) string {
	request := q.request
	if tier != contender.TierFloor && strings.HasPrefix(request.Query, "{") {
		request.Query = fmt.Sprintf("query %s_%x %s", strings.ToUpper(q.name), seed, request.Query)
	}
	return string(request.Body())
}

// questions derives what a database must answer to the operations of these names.
func (l *lab) questions(ctx context.Context, database engine.Database, names ...string) ([]question, error) {
	data, err := reference.Open(ctx, database.AdminPrimaryURL())
	if err != nil {
		return nil, err
	}
	executor := reference.NewExecutor(l.contract, data)
	var out []question
	for _, name := range names {
		operation, err := l.contract.Operation(name)
		if err != nil {
			return nil, err
		}
		request := reference.RequestOf(operation)
		answer := executor.Execute(request)
		if answer.RequestError || len(answer.Errors) > 0 {
			return nil, fmt.Errorf("operation %s: its answer has errors, so it cannot be put under load", name)
		}
		answer.Statements.WithRedis()
		out = append(out, question{name: name, request: request, expected: string(answer.JSON()), statements: answer.Statements})
	}
	return out, nil
}

// cacheDir is where proofs of conformance are kept.
func cacheDir() string {
	if dir := os.Getenv("LAB_CACHE_DIR"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "polyglot-lab")
}

// logTo writes lines of progress.
func logTo(w io.Writer) func(string) {
	return func(line string) { fmt.Fprintln(w, line) }
}

// closeEngine stops everything, even when the command was interrupted.
func closeEngine(e engine.Engine, s streams) {
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	if err := e.Close(ctx); err != nil {
		fmt.Fprintln(s.Err, "loadtest: cleaning up:", err)
	}
}

// settings is a repeatable flag NAME=VALUE.
type settings map[string]string

func (v settings) String() string { return "" }

// Set adds one setting.
func (v settings) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return fmt.Errorf("%q: expected NAME=VALUE", text)
	}
	v[name] = value
	return nil
}

// localRun is the folder of a run for which none was named.
func localRun(root string, began time.Time, name string) string {
	return filepath.Join(root, "results", "local", began.Format("2006-01-02T150405Z")+"-"+name)
}
