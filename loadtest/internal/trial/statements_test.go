package trial

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/record"
)

func TestATrialOfTooFewStatementsIsVoid(t *testing.T) {
	mix := []record.OperationFigures{{Operation: "q2", Sent: 900, OK: 900}, {Operation: "add_review", Sent: 100, OK: 100}}
	alone := map[string]contract.Range{"q1": {Min: 2, Max: 2}, "q2": {Min: 4, Max: 5}, "add_review": {Min: 1, Max: 1}}
	for name, c := range map[string]struct {
		operation  string
		operations []record.OperationFigures
		ok         uint64 // of 1000
		ran        float64
		statements map[string]contract.Range
		load       record.Load
		says       string
		tells      string
	}{
		"all":                    {operation: "q1", ok: 1000, ran: 2000},
		"answers that were kept": {operation: "q1", ok: 1000, ran: 400, says: "0.4 SQL statements a request; q1 with this arm's settings takes at least 2"},
		"under overload too":     {operation: "q1", ok: 1000, ran: 400, load: record.LoadThroughput, says: "0.4 SQL statements"},
		"none":                   {operation: "q1", ok: 1000, says: "0 SQL statements a request; q1 with this arm's settings takes at least 2"},
		"fewer than before, since the arm reset it":    {operation: "q1", ok: 1000, ran: -3000, says: "-3 SQL statements"},
		"no more than the account may lose":            {operation: "q1", ok: 1000, ran: 1990},
		"more than it may lose":                        {operation: "q1", ok: 1000, ran: 1980, says: "1.98 SQL statements"},
		"between least and most":                       {operation: "q2", ok: 1000, ran: 4400},
		"a warm-up's tail and new connections":         {operation: "q1", ok: 1000, ran: 2090},
		"twice of what it takes":                       {operation: "q1", ok: 1000, ran: 4000, tells: "4 SQL statements a request; q1 with this arm's settings takes at most 2"},
		"a mix":                                        {operation: "q2", operations: mix, ok: 1000, ran: 3700},
		"a mix whose writes are not written":           {operation: "q2", operations: mix, ok: 1000, ran: 3600, says: "3.6 SQL statements a request; the mix of q2 and add_review with this arm's settings takes at least 3.7"},
		"a mix of which one is not known":              {operation: "q2", operations: mix, ok: 1000, ran: 1, statements: map[string]contract.Range{"q2": {Min: 4, Max: 4}}},
		"what failed need not have asked":              {operation: "q1", ok: 600, ran: 1200, load: record.LoadCapacity},
		"what was answered beside failures must":       {operation: "q1", ok: 600, ran: 600, load: record.LoadCapacity, says: "0.6 SQL statements a request; q1 with this arm's settings takes at least 1.2"},
		"what is not known":                            {operation: "q3", ok: 1000, ran: 1},
		"an operation that takes none":                 {operation: "none", ok: 1000, statements: map[string]contract.Range{"none": {}}},
		"nothing known at all":                         {operation: "q1", ok: 1000, ran: 1, statements: map[string]contract.Range{}},
		"the hypervisor is no excuse for an arm's own": {operation: "q1", ok: 1000, ran: 400, says: "0.4 SQL statements"},
	} {
		t.Run(name, func(t *testing.T) {
			per := c.ran / 1000
			x := record.Trial{Load: record.LoadRate, Operation: c.operation, Operations: c.operations, Offered: 1000, Sent: 1000, OK: c.ok, Failed: 1000 - c.ok, StatementsPerRequest: &per}
			if c.load != "" {
				x.Load = c.load
			}
			if c.statements == nil {
				c.statements = alone
			}
			if c.says != "" {
				x.MachineStealShare = 0.2 // which alone would have it repeated
			}
			Allow(&x, c.statements)
			x.Void = void(&x, nil)
			assert.Equal(t, c.tells, Surplus(&x))
			if c.says == "" {
				assert.Nil(t, x.Void)
				return
			}
			require.NotNil(t, x.Void)
			assert.Contains(t, *x.Void, c.says)
			assert.False(t, Spoilt(&x), "another try would be a choice of results")
		})
	}
}

func TestWhereNobodyCountsNothingLacks(t *testing.T) {
	x := record.Trial{Load: record.LoadRate, Operation: "q1", Offered: 10, Sent: 10, OK: 10}
	Allow(&x, map[string]contract.Range{"q1": {Min: 2, Max: 2}})
	assert.Nil(t, void(&x, nil))
	assert.Empty(t, Surplus(&x))
	x = record.Trial{Load: record.LoadRate, Operation: "q1"}
	Allow(&x, map[string]contract.Range{"q1": {Min: 2, Max: 2}})
	assert.Nil(t, x.StatementsLeastPerRequest, "of no request")
}
