// Package derive makes expected.json and statements.json of the contract's operations from SQL alone.
package derive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/jackc/pgx/v5"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/reference"
)

// Main is the command `loadtest derive`: it writes expected.json and statements.json of every operation, or with
// --check names those that differ. It gives the exit status: 0 fine, 1 something differs, 2 could not run.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("derive", flag.ContinueOnError)
	flags.SetOutput(stderr)
	databaseURL := flags.String("database-url", "", "postgres URL of a freshly seeded database of size small (required)")
	dir := flags.String("contract", "contract", "the contract's folder")
	check := flags.Bool("check", false, "write nothing; name the files that differ and end with status 1")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if *databaseURL == "" || flags.NArg() > 0 {
		fmt.Fprintln(stderr, "derive: --database-url is needed, and nothing but flags")
		return 2
	}
	files, err := Derive(ctx, *dir, *databaseURL)
	if err != nil {
		fmt.Fprintln(stderr, "derive:", err)
		return 2
	}
	differing, err := Differing(*dir, files)
	if err != nil {
		fmt.Fprintln(stderr, "derive:", err)
		return 2
	}
	for _, name := range differing {
		if *check {
			fmt.Fprintf(stdout, "%s differs from what SQL gives\n", name)
			continue
		}
		if err := os.WriteFile(filepath.Join(*dir, name), files[name], 0o644); err != nil { //nolint:gosec // no secret
			fmt.Fprintln(stderr, "derive:", err)
			return 2
		}
		fmt.Fprintf(stdout, "%s written\n", name)
	}
	fmt.Fprintf(stderr, "%d operations, %d of %d files differed\n", len(files)/2, len(differing), len(files))
	if *check && len(differing) > 0 {
		return 1
	}
	return 0
}

// Derive gives the content of each file, by its path below the contract's folder. The database must hold the size
// small as the seed left it.
func Derive(ctx context.Context, dir, databaseURL string) (map[string][]byte, error) {
	c, err := contract.LoadWithoutExpectations(dir)
	if err != nil {
		return nil, err
	}
	if err := checkDigest(ctx, c, databaseURL); err != nil {
		return nil, err
	}
	data, err := reference.Open(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	executor := reference.NewExecutor(c, data)
	files := map[string][]byte{}
	for _, operation := range c.Operations {
		answer := executor.Execute(reference.RequestOf(operation))
		if answer.Unforeseeable != nil {
			return nil, fmt.Errorf("operation %s: nobody can foretell %w", operation.Name, answer.Unforeseeable)
		}
		for _, failure := range answer.Errors {
			if failure.Code == "INTERNAL_SERVER_ERROR" {
				return nil, fmt.Errorf("operation %s: the reference itself fails at %v", operation.Name, failure.Path)
			}
		}
		folder := filepath.Join("operations", operation.Name)
		// What libraries may word for themselves stays out: answers to introspection are kept as they are compared.
		expected, err := reference.Canonical(answer.JSON())
		if err != nil {
			return nil, fmt.Errorf("operation %s: %w", operation.Name, err)
		}
		files[filepath.Join(folder, "expected.json")] = reference.Indent(expected)
		files[filepath.Join(folder, "statements.json")] = countsText(answer.Statements)
	}
	return files, nil
}

// Differing names, in order, the files whose content on disk is another.
func Differing(dir string, files map[string][]byte) ([]string, error) {
	var differing []string
	for name, content := range files {
		onDisk, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err != nil || !bytes.Equal(onDisk, content) {
			differing = append(differing, name)
		}
	}
	slices.Sort(differing)
	return differing, nil
}

// checkDigest makes sure that the database holds what the seed makes, since a row changed by a test would go into the
// expected answers unseen.
func checkDigest(ctx context.Context, c *contract.Contract, databaseURL string) error {
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol // several statements in one text
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	results, err := conn.PgConn().Exec(ctx, c.DigestSQL).ReadAll()
	if err != nil {
		return fmt.Errorf("digest of the database: %w", err)
	}
	last := results[len(results)-1]
	if len(last.Rows) != 1 || string(last.Rows[0][0]) != c.Digests["small"] {
		return errors.New("the database does not hold the size small as the seed makes it (sql/digest.sql)")
	}
	return nil
}

// countsText is statements.json: a line for each statement.
func countsText(counts contract.Counts) []byte {
	var out bytes.Buffer
	out.WriteString("{")
	for i, setting := range contract.Settings {
		if i > 0 {
			out.WriteString(",")
		}
		fmt.Fprintf(&out, "\n  %q: {", setting)
		statements := make([]string, 0, len(counts[setting]))
		for statement := range counts[setting] {
			statements = append(statements, statement)
		}
		slices.Sort(statements)
		for j, statement := range statements {
			if j > 0 {
				out.WriteString(",")
			}
			text, err := json.Marshal(counts[setting][statement])
			if err != nil {
				panic(err) // two ints
			}
			fmt.Fprintf(&out, "\n    %q: %s", statement, text)
		}
		if len(statements) > 0 {
			out.WriteString("\n  ")
		}
		out.WriteString("}")
	}
	out.WriteString("\n}\n")
	return out.Bytes()
}
