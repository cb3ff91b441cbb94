package main

import (
	"context"
	"encoding/json"
	"fmt"

	"lab/loadtest/internal/doctor"
)

// doctorMain ends with 1 where something is missing without which nothing runs.
func doctorMain(ctx context.Context, args []string, s streams) int {
	f := newFlags("doctor", "[--json]")
	asJSON := f.Bool("json", false, "print JSON instead of a table")
	if code, ok := parse(f, args, s); !ok {
		return code
	}
	root, err := findRoot()
	if err != nil {
		return fail(ctx, s, "doctor", err)
	}
	findings := doctor.Check(ctx, root)
	if *asJSON {
		_ = json.NewEncoder(s.Out).Encode(findings)
	} else {
		for _, x := range findings {
			fmt.Fprintf(s.Out, "%-8s %-22s %s\n", x.Status, x.Name, x.Detail)
			if x.Remedy != "" {
				fmt.Fprintf(s.Out, "%-8s %-22s → %s\n", "", "", x.Remedy)
			}
		}
	}
	if !doctor.Healthy(findings) {
		return exitNo
	}
	return exitOK
}
