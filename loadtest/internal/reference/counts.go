package reference

import (
	"strings"

	"lab/loadtest/internal/contract"
)

// position is a place in the answer: a response key or a list index below a parent. The root has no parent.
type position struct {
	parent *position
	key    string
	index  int    // -1 for a key
	shape  string // the response keys from the root, joined by dots, without indices
}

func newRoot() *position { return &position{index: -1} }

func (p *position) field(key string) *position {
	shape := key
	if p.shape != "" {
		shape = p.shape + "." + key
	}
	return &position{parent: p, key: key, index: -1, shape: shape}
}

func (p *position) element(index int) *position {
	return &position{parent: p, index: index, shape: p.shape}
}

// path is the path of an error: strings and ints.
func (p *position) path() []any {
	if p.parent == nil {
		return nil
	}
	if p.index >= 0 {
		return append(p.parent.path(), p.index)
	}
	return append(p.parent.path(), p.key)
}

// above tells whether p is a strict ancestor of other.
func (p *position) above(other *position) bool {
	for other = other.parent; other != nil; other = other.parent {
		if other == p {
			return true
		}
	}
	return false
}

// when a statement runs at all.
type when int

const (
	always     when = iota
	masterNone      // only where master data is not in memory
)

// loader names one batch function of one request; another `first` makes it another loader.
type loader struct {
	statement string
	first     int32
	when      when
}

// call is one resolver's need of a row or a list of rows.
type call struct {
	at  *position
	key int32
}

// direct is a statement that a resolver runs by itself.
type direct struct {
	at        *position
	statement string
	when      when
	may       bool // a server may answer without it
}

// recorder notes what resolvers ask for.
type recorder struct {
	loads   map[loader][]call
	directs []direct
}

func newRecorder() *recorder { return &recorder{loads: map[loader][]call{}} }

func (r *recorder) load(at *position, l loader, key int32) {
	r.loads[l] = append(r.loads[l], call{at, key})
}

func (r *recorder) run(at *position, statement string, w when) {
	r.directs = append(r.directs, direct{at: at, statement: statement, when: w})
}

func (r *recorder) mayRun(at *position, statement string, w when) {
	r.directs = append(r.directs, direct{at: at, statement: statement, when: w, may: true})
}

// nullings tells which calls were bound to happen: where a null propagates, a server may stop with the first error and
// leave alone whatever else the nulled part would have needed.
type nullings struct {
	errorsBelow map[*position][]*position // by the position that became null
}

func newNullings(nulled []*position, failed []*position) *nullings {
	n := &nullings{errorsBelow: map[*position][]*position{}}
	for _, position := range nulled {
		n.errorsBelow[position] = nil
	}
	for _, failure := range failed {
		for at := failure; at != nil; at = at.parent {
			if _, ok := n.errorsBelow[at]; ok {
				n.errorsBelow[at] = append(n.errorsBelow[at], failure)
				break
			}
		}
	}
	return n
}

// certain: nothing around it became null, or every error that made it so lies below, hence after.
func (n *nullings) certain(at *position) bool {
	if len(n.errorsBelow) == 0 {
		return true
	}
	for around := at; around != nil; around = around.parent {
		for _, failure := range n.errorsBelow[around] {
			if !at.above(failure) {
				return false
			}
		}
	}
	return true
}

type keySet map[int32]struct{}

func (s keySet) addAll(other keySet) {
	for key := range other {
		s[key] = struct{}{}
	}
}

func (s keySet) without(other keySet) keySet {
	rest := keySet{}
	for key := range s {
		if _, ok := other[key]; !ok {
			rest[key] = struct{}{}
		}
	}
	return rest
}

func (s keySet) meets(other keySet) bool {
	for key := range s {
		if _, ok := other[key]; ok {
			return true
		}
	}
	return false
}

// use is what one path (without indices) asks of one loader.
type use struct {
	shape   string
	keys    keySet // all that may be asked for
	certain keySet // all that is bound to be asked for
	needs   keySet // keys that no path above has loaded before
}

func isAbove(shape, other string) bool { return strings.HasPrefix(other, shape+".") }

func parentOf(shape string) string {
	return shape[:max(strings.LastIndexByte(shape, '.'), 0)]
}

// counts gives, for each setting, how often each statement may run. serial: the root fields run one after the other,
// as a mutation's do.
func (r *recorder) counts(n *nullings, serial bool) contract.Counts {
	counts := contract.Counts{}
	for _, setting := range contract.Settings {
		counts[setting] = r.countsIn(setting, n, serial)
	}
	return counts
}

func (r *recorder) countsIn(setting contract.Setting, n *nullings, serial bool) map[string]contract.Range {
	withMaster := setting == contract.MasterNone || setting == contract.LoaderOffMasterNone
	batched := setting == contract.Default || setting == contract.MasterNone
	counts := map[string]contract.Range{}
	add := func(statement string, least, most int) {
		if most > 0 {
			counts[statement] = contract.Range{Min: counts[statement].Min + least, Max: counts[statement].Max + most}
		}
	}
	for _, d := range r.directs {
		if d.when == masterNone && !withMaster {
			continue
		}
		least := 0
		if !d.may && n.certain(d.at) {
			least = 1
		}
		add(d.statement, least, 1)
	}
	var loaders []loader
	for l := range r.loads {
		if l.when == always || withMaster {
			loaders = append(loaders, l)
		}
	}
	if !batched {
		for _, l := range loaders {
			for _, c := range r.loads[l] {
				least := 0
				if n.certain(c.at) {
					least = 1
				}
				add(l.statement, least, 1)
			}
		}
		return counts
	}
	uses := map[loader][]*use{}
	for _, l := range loaders {
		uses[l] = usesOf(r.loads[l], n)
	}
	w := newWaves(uses)
	for _, l := range loaders {
		most := 0
		for _, u := range uses[l] {
			most += w.statements[u]
		}
		add(l.statement, leastOf(uses[l], serial), most)
	}
	return counts
}

// usesOf groups calls by path.
func usesOf(calls []call, n *nullings) []*use {
	byShape := map[string]*use{}
	var uses []*use
	for _, c := range calls {
		u := byShape[c.at.shape]
		if u == nil {
			u = &use{shape: c.at.shape, keys: keySet{}, certain: keySet{}}
			byShape[c.at.shape] = u
			uses = append(uses, u)
		}
		u.keys[c.key] = struct{}{}
		if n.certain(c.at) {
			u.certain[c.key] = struct{}{}
		}
	}
	for _, u := range uses {
		loaded := keySet{}
		for _, other := range uses {
			if isAbove(other.shape, u.shape) {
				loaded.addAll(other.keys)
			}
		}
		u.needs = u.keys.without(loaded)
	}
	return uses
}

// leastOf is the fewest statements that can serve these paths. Paths that lie one below the other cannot share a
// statement, since the lower one's keys are known only when the upper one's rows are there; others may. A path forces a
// statement if it has a key that no path beside or above it asks for.
func leastOf(uses []*use, serial bool) int {
	least := map[*use]int{} // the longest chain of forced statements that ends there
	longest := 0
	someCertain := false
	var chain func(u *use) int
	chain = func(u *use) int {
		if known, ok := least[u]; ok {
			return known
		}
		elsewhere := keySet{}
		before := 0
		for _, other := range uses {
			if other == u || isAbove(u.shape, other.shape) {
				continue
			}
			elsewhere.addAll(other.keys)
			if isAbove(other.shape, u.shape) {
				before = max(before, chain(other))
			}
		}
		if len(u.certain.without(elsewhere)) > 0 {
			before++
		}
		least[u] = before
		return before
	}
	roots := map[string]int{} // the longest chain below each root field
	for _, u := range uses {
		someCertain = someCertain || len(u.certain) > 0
		length := chain(u)
		longest = max(longest, length)
		root, _, _ := strings.Cut(u.shape, ".")
		roots[root] = max(roots[root], length)
	}
	if serial { // one root field's statements never merge with the next one's
		longest = 0
		for _, length := range roots {
			longest += length
		}
	}
	if longest == 0 && someCertain {
		return 1
	}
	return longest
}

// waves computes the most statements that each path can cause. All objects of a path arrive together, and so their
// fields' keys go out in one statement, unless some of the objects were loaded for a path beside it and arrive with
// that path's statement: then there is one wave more for each such statement.
type waves struct {
	uses       map[loader][]*use
	byShape    map[string][]*use
	siblings   map[*use][]*use // of the same loader
	statements map[*use]int
}

func newWaves(uses map[loader][]*use) *waves {
	w := &waves{uses: uses, byShape: map[string][]*use{}, siblings: map[*use][]*use{}, statements: map[*use]int{}}
	for _, of := range uses {
		for _, u := range of {
			w.byShape[u.shape] = append(w.byShape[u.shape], u)
			w.siblings[u] = of
			if len(u.needs) > 0 {
				w.statements[u] = 1
			}
		}
	}
	for changed := true; changed; { // grows, and never beyond the number of keys: it ends
		changed = false
		for u, known := range w.statements {
			if most := min(w.arrivals(parentOf(u.shape)), len(u.needs)); most > known {
				w.statements[u] = most
				changed = true
			}
		}
	}
	return w
}

// arrivals is how many times apart the objects at a path may arrive.
func (w *waves) arrivals(shape string) int {
	if shape == "" {
		return 1
	}
	arrivals := w.arrivals(parentOf(shape))
	for _, u := range w.byShape[shape] {
		for _, other := range w.siblings[u] {
			beside := other != u && !isAbove(other.shape, u.shape) && !isAbove(u.shape, other.shape)
			// Fields of one selection ask at the same time; the contract gives them one statement per field.
			if beside && parentOf(other.shape) != parentOf(u.shape) && other.keys.meets(u.keys) {
				arrivals += w.statements[other]
			}
		}
	}
	return arrivals
}
