package summary

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"lab/loadtest/internal/record"
)

func run() record.Run {
	r := record.Run{ID: "r", Profile: "quick", Evidence: true, Complete: true, Seed: 7, Plan: record.Plan{Blocks: 3, FloorBlocks: 1, RateRPS: 200}}
	for block := 1; block <= 3; block++ {
		for arm, cpu := range map[string]float64{"go": 2000, "go-floor": 400} {
			v := cpu + float64(block)
			tier := "mainstream"
			if arm == "go-floor" {
				tier = "floor"
			}
			r.Trials = append(r.Trials,
				record.Trial{Arm: arm, Contender: "go", Tier: tier, Operation: "q2", Load: record.LoadRate, Block: block, OK: 100, CPUUsPerRequest: &v, LatencyP50NS: 2e6, LatencyP99NS: 9e6},
				record.Trial{Arm: arm, Contender: "go", Tier: tier, Operation: "q2", Load: record.LoadThroughput, Block: block, AchievedRPS: 400, Bottleneck: "contender"})
		}
	}
	return r
}

func TestTableSaysWhatTheRecordHas(t *testing.T) {
	text := Text(run())
	assert.Contains(t, text, "2002 (2001–2003)")
	assert.Contains(t, text, fmt.Sprintf("%.2f", 2002.0/402))
	assert.Contains(t, text, "0 of 6")
	assert.NotContains(t, text, "evidence")
	assert.Less(t, strings.Index(text, "go-floor"), strings.Index(text, "mainstream"), "the cheapest first")
}

func TestSmokeAndInterruptedRunsSaySo(t *testing.T) {
	r := run()
	r.Profile, r.Evidence, r.Complete = "smoke", false, false
	text := Text(r)
	assert.Contains(t, text, "no evidence")
	assert.Contains(t, text, "interrupted")
	r.Plan.Blocks = 1
	assert.Contains(t, Text(r), "; 1 block in random order")
}

func TestFloorsAreNamedWhereThereAreSome(t *testing.T) {
	r := run()
	assert.Contains(t, Text(r), "; 3 blocks in random order (floors 1), seed 7")
	r.Trials = slices.DeleteFunc(r.Trials, func(x record.Trial) bool { return x.Tier == "floor" })
	assert.Contains(t, Text(r), "; 3 blocks in random order, seed 7")
}

func TestNonconformantFiguresAreMarked(t *testing.T) {
	r := run()
	for i := range r.Trials {
		r.Trials[i].Nonconformant = r.Trials[i].Arm == "go"
	}
	assert.Contains(t, Text(r), "go (not conformant!)")
	assert.NotContains(t, Text(r), "go-floor (not")
}

func TestVoidTrialsAreInNoFigure(t *testing.T) {
	r := run()
	why := "late"
	for i := range r.Trials {
		if r.Trials[i].Arm == "go" && r.Trials[i].Block != 2 {
			r.Trials[i].Void = &why
		}
	}
	assert.Contains(t, Text(r), "2002 (2002–2002)")
	assert.Contains(t, Text(r), "4 of 6")
}

// What the machine did to the blocks without a floor must not look like the price of the library.
func TestOverFloorIsTakenWithinBlocks(t *testing.T) {
	r := run()
	r.Trials = slices.DeleteFunc(r.Trials, func(x record.Trial) bool { return x.Arm == "go-floor" && x.Block > 1 })
	slow := 20000.0
	for i := range r.Trials {
		if r.Trials[i].Arm == "go" && r.Trials[i].Block > 1 && r.Trials[i].Load == record.LoadRate {
			r.Trials[i].CPUUsPerRequest = &slow
		}
	}
	assert.Regexp(t, fmt.Sprintf(`(?m)^go +mainstream.* %.2f `, 2001.0/401), Text(r))
}

func TestAnArmWithoutFiguresIsNotTheCheapest(t *testing.T) {
	r := run()
	why := "late"
	for _, x := range r.Trials {
		x.Arm = "void"
		x.Void, x.Tier = &why, "mainstream"
		r.Trials = append(r.Trials, x)
	}
	var names []string
	for _, a := range Groups(r)[0].Mainstream() {
		names = append(names, a.Name)
	}
	assert.Equal(t, []string{"go", "void"}, names)
	assert.Regexp(t, `(?m)^void +mainstream +– +– `, Text(r), "no figure, no range")
}

func TestASmallRatioHasItsDigits(t *testing.T) {
	for x, want := range map[float64]string{1.234: "1.23", 0.456: "0.46", 0.1: "0.10", 0.0432: "0.043", 0.001318: "0.0013", 0: "0.00", 12.5: "12.50"} {
		assert.Equal(t, want, Times(x))
	}
}
