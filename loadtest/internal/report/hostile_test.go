package report

import (
	"encoding/json"

	"lab/loadtest/internal/record"
)

const markupText = `<script>document.pwned=1</script><img src="x:y" onerror="document.pwned=1"> | ` + "`x`\n# heading\n- [l](http://127.0.0.1:9/)"

func hostileChange(r *record.Run) {
	why := "void: " + markupText
	r.Trials[0].Void = &why
	r.Trials[2].Nonconformant = true
	r.Environment.CPUModel, r.Environment.Kernel, r.Environment.Engine = markupText, markupText, markupText
	r.Environment.PostgreSQL, r.Environment.PostgreSQLSource, r.Environment.DataSize = markupText, markupText, markupText
	r.Environment.PostgreSQLSettings = map[string]string{markupText: markupText}
	r.Environment.Missing = map[string]string{markupText: markupText}
	raw, err := json.Marshal(map[string]any{markupText: []string{markupText}})
	if err != nil {
		panic(err)
	}
	r.Environment.Contenders = map[string]json.RawMessage{markupText: raw}
	r.Warnings = []string{markupText}
	r.Command = []string{"loadtest", "compare", markupText, "it's"}
	r.ID = "run <b>&"
	for i := range r.Conformance {
		r.Conformance[i].Findings = []string{markupText}
		r.Conformance[i].Digest = markupText
	}
}
