package report

import (
	"fmt"

	"lab/loadtest/internal/record"
	"lab/loadtest/internal/summary"
)

// benchFigure is the deciding figure of an arm's own benchmark, in another unit.
func benchFigure(unit float64) func(summary.Arm) summary.Quantity {
	return func(a summary.Arm) summary.Quantity {
		return summary.Of(a.Rate, func(t record.Trial) (float64, bool) {
			if v := t.BenchFigure(); v != nil {
				return *v * unit, true
			}
			return 0, false
		})
	}
}

// benchWords say what each server's own benchmark was asked, after the requests.
func benchWords(asked *record.BenchAsked) string {
	switch {
	case asked == nil:
		return ""
	case asked.Command == record.BenchLoader:
		return fmt.Sprintf(", and each server's own `bench loader` with keys from memory, %s at once", whole(float64(asked.Sizes[0])))
	}
	return fmt.Sprintf(", and each server's own `bench hand-over` of %s bytes", whole(float64(asked.Sizes[0])))
}
