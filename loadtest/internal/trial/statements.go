package trial

import (
	"strconv"
	"strings"

	"lab/loadtest/internal/contract"
	"lab/loadtest/internal/record"
)

// Allow enters what the contract says that a trial's requests take of the database: at least what those need that were answered
// right, at most what all may. Where it is not known of one of the operations, nothing is entered.
func Allow(t *record.Trial, statements map[string]contract.Range) {
	operations := t.Operations
	if len(operations) == 0 {
		operations = []record.OperationFigures{{Operation: t.Operation, Sent: t.Sent, OK: t.OK}}
	}
	var least, most float64
	for _, o := range operations {
		of, known := statements[o.Operation]
		if !known {
			return
		}
		least, most = least+float64(of.Min)*float64(o.OK), most+float64(of.Max)*float64(o.Sent)
	}
	if t.Sent == 0 {
		return
	}
	least, most = least/float64(t.Sent), most/float64(t.Sent)
	t.StatementsLeastPerRequest, t.StatementsMostPerRequest = &least, &most
}

// lacking is why a trial is void whose requests were answered without the statements that they take.
func lacking(t *record.Trial) *string {
	return reason("%s SQL statements a request; %s at least %s", few(*t.StatementsPerRequest), taking(t), few(*t.StatementsLeastPerRequest))
}

// Surplus is what is to be told of a trial whose arm asked the database more than its requests may, or empty. It is not void: what a
// pool asks for itself is counted too, and an arm that works more than it need is not flattered.
func Surplus(t *record.Trial) string {
	if !t.ExceedsStatements() {
		return ""
	}
	return few(*t.StatementsPerRequest) + " SQL statements a request; " + taking(t) + " at most " + few(*t.StatementsMostPerRequest)
}

func taking(t *record.Trial) string {
	if len(t.Operations) < 2 {
		return t.Operation + " with this arm's settings takes"
	}
	var names []string
	for _, o := range t.Operations {
		names = append(names, o.Operation)
	}
	return "the mix of " + strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1] + " with this arm's settings takes"
}

// few writes a number of statements with two decimals at most.
func few(n float64) string {
	return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(n, 'f', 2, 64), "0"), ".")
}
