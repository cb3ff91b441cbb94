package claims

import "lab/loadtest/internal/stats"

// LibraryMetric decides the scenario library, and LibraryMargin is the ratio of it below which nobody would choose.
const (
	LibraryMetric = metricCPU
	LibraryMargin = libraryMargin
)

// LibraryDesign is how Library will decide a run of so many blocks with so many mainstream arms. Of fewer than two arms
// there is no pair, and the family is 0.
func LibraryDesign(mainstreamArms, blocks int) stats.Design {
	return stats.Design{Blocks: blocks, Family: mainstreamArms * (mainstreamArms - 1) / 2, Alpha: alpha}
}
