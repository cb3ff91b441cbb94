package record

// Outweighs is the claim of the scenario library, as its file stated it when the run began: the choice of library changes a
// metric more than the choice of language.
type Outweighs struct {
	Claim  string `json:"claim"`
	Metric string `json:"metric"`
	// Library are two arms of one language: its usual library, and another.
	Library [2]string `json:"library"`
	// Pairs are arms of two languages each, all with their usual libraries.
	Pairs  [][2]string `json:"pairs"`
	Alpha  float64     `json:"alpha"`
	Margin float64     `json:"margin"`
	// ChangedBy says in words what would change the verdict.
	ChangedBy string `json:"changed_by"`
}
